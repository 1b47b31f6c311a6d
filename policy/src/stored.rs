//! A stored event as the decision of the pods sees it again.

use std::borrow::Cow;

use event::UserKey;
use event::wire::{UsageEvent, parse_binary};
use serde::Deserialize;

use crate::snapshot::Snapshot;

/// A row of stored events, as far as a limit looks at it.
#[derive(Debug, Deserialize)]
pub struct Row<'a> {
    /// Receipt, Unix milliseconds.
    pub received_ms: i64,
    /// Pseudonym of the user, as a decimal number.
    #[serde(borrow)]
    pub user_text: Cow<'a, str>,
    /// The user; empty for none.
    #[serde(borrow)]
    pub user_name: Cow<'a, str>,
    /// The feature.
    #[serde(borrow)]
    pub feature: Cow<'a, str>,
    /// Unique within its source.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Where it was produced; empty when nobody looks.
    #[serde(borrow)]
    pub source_name: Cow<'a, str>,
    /// `data`; empty when nobody looks.
    #[serde(borrow)]
    pub body: Cow<'a, str>,
}

impl Row<'_> {
    /// The event, and the pseudonym of its user.
    ///
    /// # Errors
    /// A sentence, when the row is not what a pod has let pass.
    pub fn event(&self, snapshot: &Snapshot) -> Result<(UsageEvent<'_>, UserKey), String> {
        let mut attributes: Vec<(String, String)> = Vec::with_capacity(5);
        let mut attribute = |name: &str, value: &str| {
            if !value.is_empty() {
                attributes.push((name.to_owned(), value.to_owned()));
            }
        };
        attribute("specversion", "1.0");
        attribute("id", &self.id);
        attribute("type", &self.feature);
        attribute("subject", &self.user_name);
        // Where an event named no source, its key's id was stored; a rule saw none.
        if !snapshot.keys.iter().any(|key| key.id == self.source_name) {
            attribute("source", &self.source_name);
        }
        let event = parse_binary(attributes, self.body.as_bytes()).map_err(|error| error.to_string())?;
        let user = self.user_text.parse().map_err(|_| "an unreadable user key".to_owned())?;
        Ok((event, UserKey(user)))
    }
}
