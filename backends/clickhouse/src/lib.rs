//! ClickHouse as this platform uses it: databases that are planned before they are changed, inserts that can be repeated
//! without doubling a row, and queries with typed parameters.
//!
//! | module | for whom |
//! |---|---|
//! | [`query`] | everyone who reads: [`Client`] is a small pool of connections, [`Query`] one statement |
//! | [`insert`], [`rows`], [`violation_rows`] | the sink: [`LaneInserter`] owns one connection, checks its lease and never repeats by itself |
//! | [`rollups`] | the sink, which builds them, and the console, which reads them |
//! | [`databases`] | the operator: databases, tables and views, by plan and step |
//! | [`query_users`] | the operator: users by which tenants query their own databases, by plan and step |
//! | [`schema`] | all three: the columns that exist |
//!
//! Errors are classified by the server's exception code, never by its words; see [`error`].

mod body;
mod connection;
pub mod databases;
mod day;
mod endpoint;
pub mod error;
pub mod insert;
mod param;
pub mod query;
pub mod query_users;
pub mod rollups;
pub mod rows;
pub mod schema;
pub mod violation_rows;

pub use day::Day;
pub use endpoint::{Address, Endpoint, InvalidEndpoint, Server};
pub use error::ClickHouseError;
pub use insert::{InsertError, LaneInserter, Target};
pub use param::Param;
pub use query::{Client, Query};
