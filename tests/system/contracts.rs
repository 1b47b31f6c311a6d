//! The contract suites of the backends, which pass on the fakes, pass on the live parts.

use system_tests::World;

pub const TESTS: &[(&str, fn(&World))] = &[];
