//! Key of a quota record, as it stands in its bucket and among the charges of an event:
//! `<lineage>.<counting epoch>.<period start in seconds>.<subject>.<limit identity>`. The identity stands last because it may
//! hold dots.

/// The parts of a record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerKey<'a> {
    /// Whose: the UID of the first Tenant that owned the data.
    pub lineage: &'a str,
    /// Changes with what the limit counts.
    pub epoch: &'a str,
    /// When the period began, in seconds of Unix time; zero for a quota that never starts anew.
    pub period_start_s: i64,
    /// Who shares the quota.
    pub subject: &'a str,
    /// The limit.
    pub identity: &'a str,
}

impl<'a> LedgerKey<'a> {
    /// Reads a key.
    pub fn parse(key: &'a str) -> Option<Self> {
        let mut parts = key.splitn(5, '.');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (lineage, epoch) = (next()?, next()?);
        let period_start_s = next()?.parse().ok()?;
        Some(Self { lineage, epoch, period_start_s, subject: next()?, identity: next()? })
    }

    /// Whether the quota never starts anew: what is charged to it is remembered for ever.
    pub fn is_total(&self) -> bool {
        self.period_start_s == 0
    }
}

impl std::fmt::Display for LedgerKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lineage, epoch, period_start_s, subject, identity } = self;
        write!(f, "{lineage}.{epoch}.{period_start_s}.{subject}.{identity}")
    }
}

/// Whether `key` is that of a quota that never starts anew.
pub fn is_total(key: &str) -> bool {
    // Asked for every charge of every event: only the third part is looked at.
    key.split('.').nth(2) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text_and_tell_totals() {
        for (text, total) in [("l.e.0.u.plan.all", true), ("l.e.86400.u.ns.acme.a.b", false)] {
            let key = LedgerKey::parse(text).unwrap();
            assert_eq!((key.to_string().as_str(), key.is_total(), is_total(text)), (text, total, total));
        }
        assert_eq!(LedgerKey::parse("l.e.0.u.ns.acme.x").unwrap().identity, "ns.acme.x");
        for bad in ["", "l.e.0.u", "l.e.x.u.plan.a", "l..0.u.plan.a"] {
            assert_eq!(LedgerKey::parse(bad), None, "{bad}");
        }
    }
}
