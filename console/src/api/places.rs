//! Where a tenant's resources may stand: in its own namespaces, and nowhere else.

use policy::tenant::TenantPolicy;

use crate::problem::Problem;
use crate::resources::Place;

/// An id in a path: `<namespace>.<name>`. Neither part holds a dot.
pub type Id = String;

/// Longest name, bytes: that of a DNS label.
const NAME_MAX: usize = 63;

/// The id of a place.
pub fn id(place: &Place) -> Id {
    format!("{}.{}", place.namespace, place.name)
}

/// The place that an id names.
///
/// # Errors
/// 404 when it is none of the tenant's, whether it exists or not.
pub fn of(policy: &TenantPolicy, id: &str) -> Result<Place, Problem> {
    let (namespace, name) = id.split_once('.').ok_or_else(Problem::not_found)?;
    let is_own = policy.snapshot().namespaces.iter().any(|own| own == namespace);
    if !is_own || !is_label(name) {
        return Err(Problem::not_found());
    }
    Ok(Place { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// The place of a new resource.
///
/// # Errors
/// 422 naming `namespace` or `name`.
pub fn new(policy: &TenantPolicy, namespace: Option<String>, name: String) -> Result<Place, Problem> {
    let own = &policy.snapshot().namespaces;
    let namespace = match (namespace, own.as_slice()) {
        (_, []) => {
            let detail = "the tenant has no namespace in which it could declare anything";
            return Err(Problem::unprocessable("namespace", detail));
        }
        (Some(namespace), own) if own.contains(&namespace) => namespace,
        (None, [only]) => only.clone(),
        (_, own) => {
            let detail = format!("must be one of the tenant's: {}", own.join(", "));
            return Err(Problem::unprocessable("namespace", detail));
        }
    };
    if !is_label(&name) {
        let detail =
            "must be a DNS label: 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";
        return Err(Problem::unprocessable("name", detail));
    }
    Ok(Place { namespace, name })
}

fn is_label(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    !name.is_empty() && name.len() <= NAME_MAX && ends && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::snapshot;

    fn policy(namespaces: &[&str]) -> TenantPolicy {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        TenantPolicy::new(policy::snapshot::Snapshot { namespaces, ..snapshot("acme", vec![]) }).unwrap()
    }

    #[test]
    fn only_the_tenants_namespaces_are_places() {
        let acme = policy(&["acme", "acme-eu"]);
        assert_eq!(id(&of(&acme, "acme-eu.exports").unwrap()), "acme-eu.exports");
        for other in
            ["wayne.exports", "acme", "acme.", "acme.a.b", "acme.A", ".x", "kube-system.x", "acme.-x"]
        {
            assert_eq!(of(&acme, other).unwrap_err(), Problem::not_found(), "{other}");
        }
    }

    #[test]
    fn a_new_resource_stands_in_the_only_namespace_or_in_the_one_named() {
        let two = policy(&["acme", "acme-eu"]);
        let field = |result: Result<Place, Problem>| result.map_err(|e| e.field().unwrap().to_owned());
        assert_eq!(id(&new(&policy(&["acme"]), None, "x".into()).unwrap()), "acme.x");
        assert_eq!(id(&new(&two, Some("acme-eu".into()), "x".into()).unwrap()), "acme-eu.x");
        assert_eq!(field(new(&two, None, "x".into())), Err("namespace".into()));
        assert_eq!(field(new(&two, Some("wayne".into()), "x".into())), Err("namespace".into()));
        assert_eq!(field(new(&policy(&[]), None, "x".into())), Err("namespace".into()));
        assert_eq!(field(new(&two, Some("acme".into()), "a.b".into())), Err("name".into()));
    }
}
