//! A NATS user that loses the right to look at buckets or to write them, while everything else goes on: what a store that answers
//! others looks like to one component.

use super::{Platform, nats};
use crate::signal::{self, Signal, Target};
use crate::{Error, Result};

/// Rights that were withdrawn; they come back when this is dropped.
#[derive(Debug)]
pub struct Withdrawn<'a> {
    platform: &'a Platform,
    /// The configuration of every server as it was.
    whole: Vec<(&'static str, String)>,
}

impl Platform {
    /// Takes from `user` every right on the buckets whose names begin with `buckets`, in all servers. They follow within moments.
    ///
    /// # Errors
    /// When the servers' configuration cannot be changed.
    pub fn withdraw(&self, user: &str, buckets: &str) -> Result<Withdrawn<'_>> {
        let mut withdrawn = Withdrawn { platform: self, whole: Vec::new() };
        for node in nats::nodes(self.site.nats_nodes) {
            let path = self.site.secrets.path(&format!("{node}.conf"));
            let whole = std::fs::read_to_string(&path)
                .map_err(Error::io(format!("cannot read {}", path.display())))?;
            let less = without(&whole, user, buckets);
            withdrawn.whole.push((node, whole));
            self.configure(node, &less)?;
        }
        Ok(withdrawn)
    }

    fn configure(&self, node: &str, text: &str) -> Result<()> {
        super::secrets::write(&self.site.secrets.path(&format!("{node}.conf")), text)?;
        signal::send(Target::Process(self.pid(node)?), Signal::Hup);
        Ok(())
    }
}

impl Withdrawn<'_> {
    /// Gives the rights back.
    ///
    /// # Errors
    /// When the servers' configuration cannot be changed.
    pub fn give_back(mut self) -> Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> Result<()> {
        while let Some((node, whole)) = self.whole.pop() {
            self.platform.configure(node, &whole)?;
        }
        Ok(())
    }
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        // Nobody is left to tell: what comes next fails and says why.
        drop(self.restore());
    }
}

/// The configuration in which `user` has no rights on these buckets: its part goes from its own name to the next user's.
fn without(config: &str, user: &str, buckets: &str) -> String {
    let mut is_its = false;
    let mut line = |line: &str| {
        if line.contains("user: \"") {
            is_its = line.contains(&format!(r#"user: "{user}""#));
        }
        if !is_its {
            return line.to_owned();
        }
        ["KV_", "$KV."].iter().fold(line.to_owned(), |line, prefix| {
            line.replace(&format!("{prefix}{buckets}"), &format!("{prefix}withdrawn-{buckets}"))
        })
    };
    config.lines().map(&mut line).collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_user_loses_only_those_rights() {
        let user = |name: &str| {
            format!(
                "    {{ user: \"{name}\", password: \"p\", permissions: {{\n      publish: [\"$JS.API.DIRECT.GET.KV_policy\", \
                 \"$KV.ledger-day-0.>\", \"$JS.API.DIRECT.GET.KV_ledger-day-0\", \"$KV.ledger-hour-0.>\"]\n    }} }}\n"
            )
        };
        let whole = [user("operator"), user("ingest"), user("console")].concat();
        let less = without(&whole, "ingest", "policy");
        assert_eq!((less.matches("KV_policy").count(), less.matches("KV_withdrawn-policy").count()), (2, 1));
        assert!(less.find("KV_policy") < less.find("KV_withdrawn"));
        let less = without(&whole, "ingest", "ledger-day-");
        assert_eq!(less.matches("withdrawn-ledger-day-0").count(), 2, "reading and writing");
        assert_eq!(less.matches("$KV.ledger-hour-0.>").count(), 3);
        assert_eq!(without(&whole, "sink", "policy"), whole);
    }
}
