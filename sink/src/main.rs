//! The sink: JetStream -> ClickHouse, exactly once.

mod batch;
mod blocks;
mod dedup;
mod flush;
mod intent;
mod port;
mod removed;
mod takeover;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod testing;

fn main() {}
