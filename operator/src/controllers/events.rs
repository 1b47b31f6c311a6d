//! Kubernetes Events: one when a statement about an object turns, none while it stays as it is or becomes true for the first time.

use crds::Condition;
use crds::condition::{
    COUNTS_RECONCILED, ConditionStatus, DRIFTED, DURABLE, LANE_READY, NAMESPACES_CLAIMED, PAUSED,
    QUERY_USER_READY, READY, STALLED, find,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};

/// Who reports.
const CONTROLLER: &str = "meterplane.io/operator";
/// Where Events about objects without a namespace go, by convention.
const DEFAULT_NAMESPACE: &str = "default";
/// Statements whose turns are told, and whether they are good news when they become true.
const TOLD: [(&str, bool); 9] = [
    (READY, true),
    (STALLED, false),
    (COUNTS_RECONCILED, true),
    (DRIFTED, false),
    (DURABLE, true),
    (LANE_READY, true),
    (NAMESPACES_CLAIMED, true),
    (PAUSED, false),
    (QUERY_USER_READY, true),
];

/// A statement that turned.
#[derive(Debug, PartialEq, Eq)]
struct Turn<'a> {
    now: &'a Condition,
    warning: bool,
}

fn turns<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<Turn<'a>> {
    let turned = |(kind, good): &(&str, bool)| {
        let now = find(after, kind)?;
        let was = find(before, kind).map(|condition| condition.status);
        let holds = now.status == ConditionStatus::True;
        let warning = holds != *good;
        // What becomes true for the first time is how every object begins, unless it is bad news.
        let is_turn = match was {
            None | Some(ConditionStatus::Unknown) => {
                warning && now.status != ConditionStatus::Unknown && holds
            }
            Some(was) => was != now.status && now.status != ConditionStatus::Unknown,
        };
        is_turn.then_some(Turn { now, warning })
    };
    TOLD.iter().filter_map(turned).collect()
}

/// Tells what turned between two sets of statements about an object. An Event that cannot be written is not worth a repetition.
pub async fn tell<K: Resource<DynamicType = ()>>(
    client: Client,
    about: &K,
    (before, after): (&[Condition], &[Condition]),
    now: Timestamp,
) {
    let namespace = about.namespace().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let api: Api<Event> = Api::namespaced(client, &namespace);
    for turn in turns(before, after) {
        if let Err(error) = api.create(&PostParams::default(), &event(about, &namespace, &turn, now)).await {
            tracing::debug!(%error, "an event was not written");
        }
    }
}

fn event<K: Resource<DynamicType = ()>>(
    about: &K,
    namespace: &str,
    turn: &Turn<'_>,
    now: Timestamp,
) -> Event {
    let Condition { kind, reason, message, .. } = turn.now;
    let mut note = format!("{kind}: {message}");
    note.truncate(note.floor_char_boundary(1_000));
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", about.name_any())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(CONTROLLER.to_owned()),
        action: Some("Reconcile".to_owned()),
        reason: Some(reason.clone()),
        regarding: Some(ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: about.meta().name.clone(),
            namespace: about.namespace(),
            uid: about.uid(),
            resource_version: about.resource_version(),
            ..ObjectReference::default()
        }),
        note: Some(note),
        type_: Some(if turn.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::{Statements, Why};

    fn said(kind: &'static str, status: ConditionStatus) -> Vec<Condition> {
        let mut statements = Statements::default();
        statements.set(kind, status, Why::new("Because", "of this"));
        statements.conditions(&[], Some(1), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_turns_are_told() {
        use ConditionStatus::{False, True, Unknown};
        let told = |kind, was: Option<ConditionStatus>, is| {
            let before = was.map(|was| said(kind, was)).unwrap_or_default();
            turns(&before, &said(kind, is)).first().map(|turn| turn.warning)
        };
        assert_eq!(told(READY, None, True), None, "how every object begins");
        assert_eq!(told(READY, Some(Unknown), True), None);
        assert_eq!(told(READY, Some(True), True), None);
        assert_eq!(told(READY, Some(True), False), Some(true));
        assert_eq!(told(READY, Some(False), True), Some(false));
        assert_eq!(told(STALLED, None, True), Some(true), "bad news is told at once");
        assert_eq!(told(DRIFTED, Some(True), False), Some(false));
        assert_eq!(told(crds::condition::ENFORCED, Some(True), False), None, "it turns with every edit");
    }
}
