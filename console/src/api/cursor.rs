//! Cursors: opaque to clients, bound to the tenant and to the range of the first page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::TenantName;
use serde::{Deserialize, Serialize};

use super::range::{DAY_MS, MAX_RANGE_DAYS, Range};
use crate::problem::Problem;

/// Where the next page of features begins. It carries nothing that its bearer did not see, so it needs no signature; what
/// it says is checked and bound like any other parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Whose pages these are.
    tenant: TenantName,
    from_ms: i64,
    to_ms: i64,
    /// Events of the last feature.
    pub events: u64,
    /// Name of the last feature.
    pub feature: String,
}

impl Cursor {
    /// A cursor behind `feature`.
    pub fn new(tenant: &TenantName, range: Range, events: u64, feature: &str) -> Self {
        Self {
            tenant: tenant.clone(),
            from_ms: range.from_ms,
            to_ms: range.to_ms,
            events,
            feature: feature.to_owned(),
        }
    }

    /// The range of the first page.
    pub fn range(&self) -> Range {
        Range { from_ms: self.from_ms, to_ms: self.to_ms }
    }

    /// Its text.
    pub fn encode(&self) -> String {
        // Serialising plain data into memory cannot fail; an empty cursor would be refused.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a cursor's text.
    ///
    /// # Errors
    /// 400 when it is not one of this tenant's.
    pub fn decode(text: &str, tenant: &TenantName) -> Result<Self, Problem> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let fits = |cursor: &Self| {
            let length = cursor.to_ms.checked_sub(cursor.from_ms);
            let in_bounds = length.is_some_and(|length| (1..=MAX_RANGE_DAYS * DAY_MS).contains(&length));
            cursor.tenant == *tenant && cursor.from_ms >= 0 && in_bounds
        };
        let wrong = || Problem::bad_request("cursor", "is not a nextCursor of this route");
        cursor.filter(fits).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_their_text_form_and_belong_to_one_tenant() {
        let (acme, wayne) = ("acme".parse().unwrap(), "wayne".parse().unwrap());
        let cursor = Cursor::new(&acme, Range { from_ms: 1, to_ms: 2 }, 3, "it's / 🦀");
        assert_eq!(Cursor::decode(&cursor.encode(), &acme), Ok(cursor.clone()));
        assert_eq!(Cursor::decode(&cursor.encode(), &wayne).unwrap_err().field(), Some("cursor"));
        let endless = Cursor::new(&acme, Range { from_ms: 0, to_ms: i64::MAX }, 3, "f");
        let backward = Cursor::new(&acme, Range { from_ms: 2, to_ms: 1 }, 3, "f");
        for bad in ["", "x", "{}", "e30", &endless.encode(), &backward.encode()] {
            assert!(Cursor::decode(bad, &acme).is_err(), "{bad}");
        }
    }
}
