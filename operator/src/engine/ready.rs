//! Keys that wait for a worker, shared out fairly: pure.
//!
//! Groups (tenants) take turns, so that one with a thousand keys is one among many. What somebody has just changed goes before what
//! is only looked at again; of every few that are handed out, one is of the latter, so that nothing waits for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::ObjectKey;

/// Of so many keys handed out one may be of those that can wait, though others are urgent.
const LATER_EVERY: u32 = 8;

/// Whose turn a key takes.
pub type Group = Arc<str>;

/// How soon a key is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Looked at again: after a start, a resync, a failure.
    Later,
    /// Something changed.
    Now,
}

/// The waiting keys. A key may stand in it twice; whoever takes it knows whether it is still wanted.
#[derive(Default)]
pub struct Ready {
    now: Line,
    later: Line,
    handed_out: u32,
}

#[derive(Default)]
struct Line {
    keys: HashMap<Group, VecDeque<ObjectKey>>,
    turns: VecDeque<Group>,
}

impl Ready {
    /// Adds a key.
    pub fn push(&mut self, key: ObjectKey, group: Group, priority: Priority) {
        let line = match priority {
            Priority::Now => &mut self.now,
            Priority::Later => &mut self.later,
        };
        line.push(key, group);
    }

    /// The next key of a group that `may` have one more, and what it was added as.
    pub fn pop(&mut self, may: impl Fn(&Group) -> bool) -> Option<(ObjectKey, Group, Priority)> {
        let later_first = self.handed_out >= LATER_EVERY - 1;
        let order = match later_first {
            true => [Priority::Later, Priority::Now],
            false => [Priority::Now, Priority::Later],
        };
        for priority in order {
            let line = match priority {
                Priority::Now => &mut self.now,
                Priority::Later => &mut self.later,
            };
            if let Some((key, group)) = line.pop(&may) {
                self.handed_out =
                    if priority == Priority::Later { 0 } else { (self.handed_out + 1).min(LATER_EVERY) };
                return Some((key, group, priority));
            }
        }
        None
    }
}

impl Line {
    fn push(&mut self, key: ObjectKey, group: Group) {
        let keys = self.keys.entry(group.clone()).or_default();
        if keys.is_empty() {
            self.turns.push_back(group);
        }
        keys.push_back(key);
    }

    fn pop(&mut self, may: impl Fn(&Group) -> bool) -> Option<(ObjectKey, Group)> {
        // Few groups can have all they may at once, so this ends soon.
        let at = self.turns.iter().position(may)?;
        let group = self.turns.remove(at)?;
        let keys = self.keys.get_mut(&group)?;
        let key = keys.pop_front();
        if keys.is_empty() {
            self.keys.remove(&group);
        } else {
            self.turns.push_back(group.clone());
        }
        key.map(|key| (key, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ready: &mut Ready, count: usize) -> Vec<String> {
        (0..count).filter_map(|_| ready.pop(|_| true)).map(|(key, ..)| key.name).collect()
    }

    fn push(ready: &mut Ready, name: &str, group: &str, priority: Priority) {
        ready.push(ObjectKey::cluster(name), group.into(), priority);
    }

    #[test]
    fn groups_take_turns() {
        let mut ready = Ready::default();
        for n in 0..3 {
            push(&mut ready, &format!("noisy{n}"), "noisy", Priority::Now);
        }
        push(&mut ready, "quiet", "quiet", Priority::Now);
        assert_eq!(names(&mut ready, 9), ["noisy0", "quiet", "noisy1", "noisy2"]);
    }

    #[test]
    fn what_changed_goes_first_and_the_rest_does_not_starve() {
        let mut ready = Ready::default();
        for n in 0..20 {
            push(&mut ready, &format!("later{n}"), "a", Priority::Later);
            push(&mut ready, &format!("now{n}"), "b", Priority::Now);
        }
        let first = names(&mut ready, 16);
        assert_eq!(first[..7].iter().filter(|name| name.starts_with("now")).count(), 7);
        assert_eq!((first[7].as_str(), first[15].as_str()), ("later0", "later1"));
        assert_eq!(names(&mut ready, 99).len(), 24);
    }

    #[test]
    fn a_group_that_has_all_it_may_is_passed_over() {
        let mut ready = Ready::default();
        push(&mut ready, "a1", "a", Priority::Now);
        push(&mut ready, "b1", "b", Priority::Now);
        let (key, ..) = ready.pop(|group| &**group != "a").unwrap();
        assert_eq!(key.name, "b1");
        assert!(ready.pop(|group| &**group != "a").is_none());
        assert_eq!(names(&mut ready, 1), ["a1"]);
    }
}
