use policy::limit::Match;
use policy::window::Window;

use super::*;
use crate::fixtures;
use crate::query::tests::{HOSTILE, assert_scoped};

const PERIOD: Period = Period { start_ms: 1_000, end_ms: 2_000 };

fn hostile() -> Limit {
    let matches = Match {
        features: vec![HOSTILE.into(), format!("{HOSTILE}*")],
        users: vec![HOSTILE.into()],
        expression: None,
    };
    fixtures::limit(matches, Measure::Sum { field: HOSTILE.into() })
}

#[test]
fn declared_names_are_only_bound() {
    let policy = fixtures::policy("acme", vec![]);
    let limit = hostile();
    let counted = [Counted { limit: &limit, period: PERIOD }; 2];
    let sql = sql(&policy, &counted);
    assert_scoped(&policy, &sql);
    let query = query(&policy, &counted, Some(&PseudonymKey::new([1; 32]))).unwrap();
    assert!(
        format!("{query:?}").contains(&format!("{sql:?}")),
        "what is bound does not change the statement"
    );
    for name in ["s0", "e0", "x0", "p0", "u0", "f0", "s1", "since"] {
        assert!(format!("{query:?}").contains(&format!("\"param_{name}\"")), "{name}");
        assert!(sql.contains(&format!("{{{name}:")), "{name}");
    }
}

#[test]
fn a_limit_without_match_counts_everything_of_its_period() {
    let policy = fixtures::policy("acme", vec![]);
    let mut limit = fixtures::limit(Match::default(), Measure::Count);
    let month = sql(&policy, &[Counted { limit: &limit, period: PERIOD }]);
    assert!(month.contains(
        "[toString(countIf(received >= {s0:DateTime64(3, 'UTC')} AND received < {e0:DateTime64(3, 'UTC')}))]"
    ));
    limit.window = Window::Total;
    let total = sql(&policy, &[Counted { limit: &limit, period: Period { start_ms: 0, end_ms: i64::MAX } }]);
    assert!(total.contains("[toString(countIf(received >= {s0:DateTime64(3, 'UTC')}))]"), "{total}");
}

#[test]
fn users_cannot_be_counted_without_their_pseudonyms() {
    let policy = fixtures::policy("acme", vec![]);
    let limit = hostile();
    assert!(query(&policy, &[Counted { limit: &limit, period: PERIOD }], None).is_none());
    assert!(query(&policy, &[], None).is_none());
}
