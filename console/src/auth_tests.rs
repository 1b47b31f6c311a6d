use axum::http::{HeaderMap, HeaderName};
use policy::apikey::Scope;
use policy::snapshot::TenantState;

use super::*;
use crate::fixtures::{api_key, complete, key, policy, snapshot};

fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    headers
}

fn policies() -> Policies {
    let keys = vec![
        api_key(1, &[Scope::Read], None),
        api_key(2, &[Scope::Ingest], None),
        api_key(3, &[Scope::Read], Some(100)),
        api_key(4, &[Scope::Ingest], Some(99)),
    ];
    let mut suspended = snapshot("gone", vec![api_key(6, &[Scope::Read], None)]);
    suspended.state = TenantState::Suspended;
    let wayne = policy("wayne", vec![api_key(5, &[Scope::Ingest, Scope::Read], None)]);
    complete(vec![policy("acme", keys), wayne, TenantPolicy::new(suspended).unwrap()])
}

fn outcome(policies: &Policies, pairs: &[(&'static str, String)], now_ms: i64) -> Result<String, u16> {
    authenticate(policies, &headers(pairs), Scope::Read, now_ms)
        .map(|policy| policy.name().to_string())
        .map_err(|problem| problem.status())
}

#[test]
fn the_key_alone_names_the_tenant() {
    let policies = policies();
    let bearer = |seed| ("authorization", format!("Bearer {}", key(seed)));
    let header = |seed| ("x-api-key", key(seed));
    let cases = [
        ("bearer", vec![bearer(1)], Ok::<&str, u16>("acme")),
        ("header", vec![header(5)], Ok("wayne")),
        ("the scheme in any case", vec![("authorization", format!("bEARER {}", key(1)))], Ok("acme")),
        ("nothing", Vec::new(), Err(401)),
        ("both", vec![bearer(1), header(1)], Err(400)),
        ("both, one of them nonsense", vec![("authorization", "x".into()), header(1)], Err(400)),
        ("one header twice", vec![header(1), header(5)], Err(400)),
        ("another scheme", vec![("authorization", "Basic YTpi".into())], Err(401)),
        ("no scheme", vec![("authorization", key(1))], Err(401)),
        ("malformed", vec![("x-api-key", "mp_live_x".into())], Err(401)),
        ("unknown", vec![header(9)], Err(401)),
        ("without the scope", vec![header(2)], Err(403)),
        ("expired", vec![header(3)], Err(401)),
        ("expired and without the scope", vec![header(4)], Err(401)),
        ("suspended", vec![header(6)], Err(403)),
    ];
    for (name, pairs, expected) in cases {
        assert_eq!(outcome(&policies, &pairs, 101), expected.map(str::to_owned), "{name}");
    }
    assert_eq!(outcome(&policies, &[header(3)], 100), Ok("acme".into()), "the last millisecond counts");
}

#[test]
fn an_incomplete_bucket_cannot_say_that_a_key_is_unknown() {
    let header = [("x-api-key", key(1))];
    let (mut unsynced, mut unsigned) = (policies(), policies());
    unsynced.synced = false;
    unsigned.index = None;
    for policies in [unsynced, unsigned, Policies::default()] {
        assert_eq!(outcome(&policies, &header, 0), Err(503));
        assert_eq!(outcome(&policies, &[("x-api-key", "nonsense".into())], 0), Err(401));
    }
}

#[test]
fn another_tenants_name_is_not_found() {
    let acme = policy("acme", vec![]);
    let confirm =
        |uri: &str| confirm_tenant(&acme, &uri.parse().unwrap()).map_err(|problem| problem.status());
    for uri in ["/", "/?tenant=acme", "/?from=now&tenant=acme", "/?tenan=wayne"] {
        assert_eq!(confirm(uri), Ok(()), "{uri}");
    }
    for uri in
        ["/?tenant=wayne", "/?tenant=", "/?tenant=ACME", "/?tenant=acme&tenant=wayne", "/?tenant=a%20b"]
    {
        assert_eq!(confirm(uri), Err(404), "{uri}");
    }
}
