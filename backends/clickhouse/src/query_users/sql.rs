//! The statements of a step. Every one may be executed twice.

use super::plan::{Change, QueryUserStep};
use super::spec::QueryUserSpec;

/// Statements of `step`, in order.
pub(super) fn statements(step: &QueryUserStep) -> Vec<String> {
    match &step.change {
        // Replaced whole: nothing that was granted or set behind our back stays.
        Change::Put(spec) => [vec![create(spec)], grants(spec)].concat(),
        Change::Drop => vec![format!("DROP USER IF EXISTS {}", step.user)],
    }
}

fn create(spec: &QueryUserSpec) -> String {
    let settings = spec.settings();
    let settings: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name} = {} CONST", literal(value))).collect();
    format!(
        "CREATE USER OR REPLACE {} IDENTIFIED WITH sha256_hash BY '{}' DEFAULT DATABASE {} SETTINGS {}",
        spec.user,
        spec.password,
        spec.database,
        settings.join(", ")
    )
}

fn grants(spec: &QueryUserSpec) -> Vec<String> {
    spec.grants().iter().map(|grant| format!("{grant} TO {}", spec.user)).collect()
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::acme;
    use super::*;

    #[test]
    fn a_user_is_replaced_whole() {
        let step = QueryUserStep { user: acme().user, change: Change::Put(Box::new(acme())) };
        let [create, events, violations] = <[String; 3]>::try_from(statements(&step)).unwrap();
        assert!(
            create.starts_with("CREATE USER OR REPLACE tenant_acme_1 IDENTIFIED WITH sha256_hash BY 'abab")
        );
        assert!(create.contains("readonly = '1' CONST") && create.contains("it\\'s <dev>"), "{create}");
        assert_eq!(events, "GRANT SELECT ON tenant_acme_1.events TO tenant_acme_1");
        assert!(violations.ends_with("TO tenant_acme_1"));
    }
}
