//! Policy as this pod holds it, and how it keeps up with bucket `policy`.

mod replaced;
mod store;
mod watch;

pub use store::{Policies, Store};
pub use watch::Follower;
