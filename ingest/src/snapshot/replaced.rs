//! What was replaced and may still be in use, oldest first.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Values that were replaced, with the revision of what replaced them.
#[derive(Debug)]
pub struct Replaced<T> {
    in_use: VecDeque<(u64, Weak<T>)>,
    drained: u64,
}

impl<T> Default for Replaced<T> {
    fn default() -> Self {
        Self { in_use: VecDeque::new(), drained: 0 }
    }
}

impl<T> Replaced<T> {
    /// `old` was replaced by what came with `revision`.
    pub fn push(&mut self, revision: u64, old: &Arc<T>) {
        self.in_use.push_back((revision, Arc::downgrade(old)));
    }

    /// The newest revision before which nothing is in use any more.
    pub fn drained(&mut self) -> u64 {
        while let Some((revision, old)) = self.in_use.front() {
            if old.strong_count() > 0 {
                break;
            }
            self.drained = *revision;
            self.in_use.pop_front();
        }
        self.drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_drained_when_nothing_older_is_in_use() {
        let (mut replaced, values) = (Replaced::default(), [1, 2, 3].map(Arc::new));
        assert_eq!(replaced.drained(), 0);
        let [first, second, third] = values;
        replaced.push(12, &first);
        replaced.push(13, &second);
        let pack = second.clone();
        drop(second);
        assert_eq!(replaced.drained(), 0, "the oldest is in use");
        drop(first);
        assert_eq!(replaced.drained(), 12, "what replaced the first is still in use itself");
        replaced.push(14, &third);
        drop(third);
        assert_eq!(replaced.drained(), 12, "a younger one that ended does not matter");
        drop(pack);
        assert_eq!(replaced.drained(), 14);
    }
}
