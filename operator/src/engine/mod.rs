//! The machinery under the controllers: what the cluster holds (`cache`, kept by `watch`), what is to be looked at
//! (`queue`), and who looks (`worker`). It knows no kind.
//!
//! ```text
//! kube-apiserver -> watch -> Cache --+-> listener -> Queue -> worker -> reconcile -> Action -> Queue
//!                                    '-> read by reconcilers
//! ```

pub mod cache;
mod pace;
pub mod queue;
mod ready;
pub mod watch;
pub mod worker;

use std::fmt;

use kube::Resource;

pub use cache::{Cache, Change};
pub use queue::Queue;

/// Names an object of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// A cluster-scoped object.
    pub fn cluster(name: &str) -> Self {
        Self { namespace: String::new(), name: name.to_owned() }
    }

    /// A namespaced object.
    pub fn namespaced(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}
