//! All objects of one kind, as last heard of.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;
use kube::core::DeserializeGuard;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::ObjectKey;

/// Objects of one kind. Objects that this build cannot read are known by name, so that nobody takes them for deleted.
pub struct Cache<K> {
    state: RwLock<State<K>>,
    synced: watch::Sender<bool>,
    /// Who follows the changes; nobody as long as another process leads.
    listener: Mutex<Option<Listener<K>>>,
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct State<K> {
    held: BTreeMap<ObjectKey, Held<K>>,
    version: u64,
}

enum Held<K> {
    Readable(Arc<K>),
    Unreadable,
}

/// What changed about one object.
#[derive(Debug)]
pub struct Change<K> {
    /// The object.
    pub key: ObjectKey,
    /// As it was, if it was there and readable.
    pub old: Option<Arc<K>>,
    /// As it is, if it is there and readable.
    pub new: Option<Arc<K>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let state = State { held: BTreeMap::new(), version: 0 };
        Self { state: RwLock::new(state), synced: watch::Sender::new(false), listener: Mutex::default() }
    }
}

impl<K: Resource> Cache<K> {
    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.state.read().held.get(key).and_then(Held::readable)
    }

    /// Whether there is an object of that name, readable or not.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.state.read().held.contains_key(key)
    }

    /// All readable objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.state.read().held.values().filter_map(Held::readable).collect()
    }

    /// The readable objects that `pick` picks, ordered by namespace and name.
    pub fn select(&self, pick: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let state = self.state.read();
        let readable = state.held.values().filter_map(|held| match held {
            Held::Readable(object) => Some(object),
            Held::Unreadable => None,
        });
        readable.filter(|object| pick(object)).cloned().collect()
    }

    /// The readable objects of one namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.namespace(namespace, |_, held| held.readable())
    }

    /// Names of the objects of one namespace that this build cannot read.
    pub fn unreadable_in(&self, namespace: &str) -> Vec<ObjectKey> {
        self.namespace(namespace, |key, held| held.readable().is_none().then(|| key.clone()))
    }

    fn namespace<T>(&self, namespace: &str, pick: impl Fn(&ObjectKey, &Held<K>) -> Option<T>) -> Vec<T> {
        let from = ObjectKey::namespaced(namespace, "");
        let state = self.state.read();
        let rows = state.held.range(from..).take_while(|(key, _)| key.namespace == namespace);
        rows.filter_map(|(key, held)| pick(key, held)).collect()
    }

    /// Number of objects, readable or not.
    pub fn len(&self) -> usize {
        self.state.read().held.len()
    }

    /// Number of objects that this build cannot read.
    pub fn unreadable(&self) -> usize {
        self.state.read().held.values().filter(|held| held.readable().is_none()).count()
    }

    /// Highest resourceVersion heard of.
    pub fn version(&self) -> String {
        self.state.read().version.to_string()
    }

    /// Returns once the first list is complete.
    pub async fn wait_synced(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Tells `listener` of everything that is held, as if it had just come, and from then on of every change that is heard of.
    pub fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut slot = self.listener.lock();
        let all = self.state.read().all();
        all.iter().for_each(&listener);
        *slot = Some(Box::new(listener));
    }

    /// Makes a change that was heard of, and tells the listener when it is made.
    pub fn heard(&self, change: impl FnOnce(&Self) -> Vec<Change<K>>) {
        // Held meanwhile, so that whoever begins to listen misses nothing.
        let listener = self.listener.lock();
        let changes = change(self);
        if let Some(listener) = listener.as_ref() {
            changes.iter().for_each(listener);
        }
    }

    /// Takes over an object that was heard of or that we wrote ourselves; an older one than held changes nothing.
    pub fn apply(&self, object: DeserializeGuard<K>) -> Option<Change<K>> {
        self.state.write().apply(object)
    }

    /// Takes over a deletion.
    pub fn delete(&self, key: &ObjectKey) -> Option<Change<K>> {
        let old = self.state.write().held.remove(key)?;
        Some(Change { key: key.clone(), old: old.readable(), new: None })
    }

    /// Takes over a complete list: what is not in it is gone.
    pub fn replace(&self, objects: Vec<DeserializeGuard<K>>) -> Vec<Change<K>> {
        let mut state = self.state.write();
        let listed: std::collections::BTreeSet<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
        let gone: Vec<ObjectKey> = state.held.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        let mut changes: Vec<Change<K>> =
            objects.into_iter().filter_map(|object| state.apply(object)).collect();
        for key in gone {
            let old = state.held.remove(&key).and_then(|held| held.readable());
            changes.push(Change { key, old, new: None });
        }
        changes
    }

    /// Says that a complete list was taken over, and that whoever follows the changes has followed them.
    pub fn mark_synced(&self) {
        self.synced.send_replace(true);
    }
}

impl<K> Held<K> {
    fn readable(&self) -> Option<Arc<K>> {
        match self {
            Self::Readable(object) => Some(object.clone()),
            Self::Unreadable => None,
        }
    }
}

impl<K: Resource> State<K> {
    /// Everything that is held, as if it were new.
    fn all(&self) -> Vec<Change<K>> {
        let new = |(key, held): (&ObjectKey, &Held<K>)| Change {
            key: key.clone(),
            old: None,
            new: held.readable(),
        };
        self.held.iter().map(new).collect()
    }

    fn apply(&mut self, object: DeserializeGuard<K>) -> Option<Change<K>> {
        let key = ObjectKey::of(&object);
        let version = version_of(&object);
        self.version = self.version.max(version);
        let old = self.held.get(&key).and_then(Held::readable);
        if let Some(old) = &old
            && old.meta().uid == object.meta().uid
            && version_of(old.as_ref()) >= version
        {
            return None;
        }
        let held = match object.0 {
            Ok(object) => Held::Readable(Arc::new(object)),
            Err(invalid) => {
                tracing::error!(kind = %type_name::<K>(), object = %key, error = %invalid.error, "unreadable object");
                Held::Unreadable
            }
        };
        let new = held.readable();
        self.held.insert(key.clone(), held);
        Some(Change { key, old, new })
    }
}

fn version_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn type_name<K>() -> &'static str {
    std::any::type_name::<K>().rsplit("::").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{ApiKey, ApiKeySpec};

    fn key(namespace: &str, name: &str, version: u64) -> DeserializeGuard<ApiKey> {
        let spec: ApiKeySpec = serde_json::from_value(serde_json::json!({"scopes": ["ingest"]})).unwrap();
        let mut object = ApiKey::new(name, spec);
        object.metadata.namespace = Some(namespace.to_owned());
        object.metadata.resource_version = Some(version.to_string());
        DeserializeGuard(Ok(object))
    }

    #[test]
    fn an_older_version_changes_nothing() {
        let cache = Cache::default();
        assert!(cache.apply(key("a", "x", 5)).is_some_and(|change| change.old.is_none()));
        assert!(cache.apply(key("a", "x", 4)).is_none());
        assert!(cache.apply(key("a", "x", 5)).is_none());
        assert!(cache.apply(key("a", "x", 6)).is_some_and(|change| change.old.is_some()));
        assert_eq!(cache.version(), "6");
    }

    #[test]
    fn a_list_removes_what_it_does_not_hold() {
        let cache = Cache::default();
        cache.replace(vec![key("a", "x", 1), key("a", "y", 2), key("b", "x", 3)]);
        assert!(!cache.is_synced());
        cache.mark_synced();
        assert!(cache.is_synced());
        let changes = cache.replace(vec![key("a", "y", 2), key("b", "x", 4)]);
        let summary: Vec<_> =
            changes.iter().map(|c| (c.key.to_string(), c.old.is_some(), c.new.is_some())).collect();
        assert_eq!(summary, [("b/x".to_owned(), true, true), ("a/x".to_owned(), true, false)]);
        assert_eq!(cache.in_namespace("a").len(), 1);
    }

    #[test]
    fn whoever_begins_to_listen_hears_of_everything_once() {
        let cache = Arc::new(Cache::default());
        cache.heard(|cache| cache.replace(vec![key("a", "x", 1), key("a", "y", 2)]));
        let told = Arc::new(Mutex::new(Vec::new()));
        let (to, held) = (told.clone(), Arc::downgrade(&cache));
        cache.listen(move |change| {
            let readable = held.upgrade().is_some_and(|cache| cache.get(&change.key).is_some());
            to.lock().push((change.key.name.clone(), change.old.is_some(), readable));
        });
        cache.heard(|cache| cache.apply(key("a", "y", 3)).into_iter().collect());
        cache.heard(|cache| cache.apply(key("a", "y", 3)).into_iter().collect());
        let expected = [("x", false), ("y", false), ("y", true)];
        assert_eq!(*told.lock(), expected.map(|(name, old)| (name.to_owned(), old, true)));
    }

    #[test]
    fn an_unreadable_object_is_not_a_missing_one() {
        let cache: Cache<ApiKey> = Cache::default();
        let mut broken = key("a", "x", 1).0.unwrap().metadata;
        broken.uid = Some("u".to_owned());
        let invalid =
            kube::core::error_boundary::InvalidObject { error: "no scopes".to_owned(), metadata: broken };
        let change = cache.apply(DeserializeGuard(Err(invalid))).unwrap();
        assert!(change.new.is_none() && cache.contains(&change.key) && cache.get(&change.key).is_none());
        assert_eq!((cache.unreadable_in("a").len(), cache.unreadable()), (1, 1));
    }
}
