//! Whether an acknowledgement leaves NATS only when what it acknowledges is synced: by the system calls, as strace saw them.

use std::collections::BTreeMap;

/// What strace prints: these calls, with paths of files, and enough of what is written to tell an acknowledgement.
pub const ARGUMENTS: [&str; 7] =
    ["-f", "-y", "-s", "4096", "-e", "trace=write,writev,pwrite64,fsync,fdatasync", "-qq"];

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Acknowledgements of the stream.
    pub acknowledged: u64,
    /// Of those, the ones that left while something written to the stream's blocks was not synced.
    pub early: u64,
    /// Syncs of the stream's blocks.
    pub syncs: u64,
}

/// Reads strace's lines in their order; `stream` is published to by one client that waits for each answer.
pub fn read<'a>(lines: impl Iterator<Item = &'a str>, stream: &str) -> Seen {
    let (blocks, ack) = (format!("/{stream}/msgs/"), format!(r#"\"stream\":\"{stream}\""#));
    let mut seen = Seen::default();
    // Order of beginnings; of the last write, and of the last sync that ended.
    let (mut now, mut written, mut synced) = (0_u64, 0, 0);
    let mut under_way: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        now += 1;
        let Some((thread, call)) = line.trim_start_matches("[pid").trim_start().split_once([' ', ']']) else {
            continue;
        };
        let call = call.trim_start();
        let is_sync = call.starts_with("fsync(") || call.starts_with("fdatasync(");
        if is_sync && call.contains(&blocks) {
            if call.contains("<unfinished") {
                under_way.insert(thread, now);
            } else {
                seen.syncs += 1;
                synced = now;
            }
        } else if call.starts_with("<... fsync") || call.starts_with("<... fdatasync") {
            // It covers what was written before it began.
            if let Some(began) = under_way.remove(thread) {
                seen.syncs += 1;
                synced = synced.max(began);
            }
        } else if call.starts_with("write") || call.starts_with("pwrite64(") {
            if call.contains(&blocks) {
                written = now;
            } else if call.contains(&ack) {
                seen.acknowledged += 1;
                seen.early += u64::from(synced < written);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = r#"7 write(9</d/streams/USAGE_a/msgs/1.blk>, "x", 1) = 1"#;
    const SYNC: &str = "7 fsync(9</d/streams/USAGE_a/msgs/1.blk>) = 0";
    const OTHER: &str = "7 fsync(8</d/streams/USAGE_b/msgs/1.blk>) = 0";
    const ACK: &str =
        r#"8 write(5<socket:[1]>, "MSG _INBOX.1 1 30\r\n{\"stream\":\"USAGE_a\",\"seq\":1}\r\n", 50) = 50"#;

    fn early(lines: &[&str]) -> (u64, u64) {
        let seen = read(lines.iter().copied(), "USAGE_a");
        (seen.acknowledged, seen.early)
    }

    #[test]
    fn an_acknowledgement_before_the_sync_is_seen() {
        assert_eq!(early(&[WRITE, SYNC, ACK]), (1, 0));
        assert_eq!(early(&[WRITE, ACK, SYNC]), (1, 1));
        assert_eq!(early(&[WRITE, OTHER, ACK]), (1, 1), "another stream's sync");
        assert_eq!(early(&[WRITE, SYNC, ACK, WRITE, ACK]), (2, 1));
    }

    #[test]
    fn a_sync_counts_from_its_beginning_and_only_when_it_has_ended() {
        let begun = "7 fsync(9</d/streams/USAGE_a/msgs/1.blk> <unfinished ...>";
        let ended = "7 <... fsync resumed>) = 0";
        assert_eq!(early(&[WRITE, begun, ended, ACK]), (1, 0));
        assert_eq!(early(&[WRITE, begun, ACK, ended]), (1, 1));
        assert_eq!(early(&[begun, WRITE, ended, ACK]), (1, 1), "written after it began");
        assert_eq!(early(&[WRITE, begun, "6 <... fsync resumed>) = 0", ACK]), (1, 1), "another thread's");
        assert_eq!(early(&["[pid 7] fsync(9</d/streams/USAGE_a/msgs/1.blk>) = 0", ACK]), (1, 0));
    }
}
