//! Cursors: opaque to clients, bound to the tenant and to the range of the first page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::TenantName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::range::{DAY_MS, MAX_RANGE_DAYS, Range};
use crate::problem::Problem;

/// Where the next page begins: behind `after`, the last entry of the page before. It carries nothing that its bearer did
/// not see, so it needs no signature; what it says is checked and bound like any other parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor<A> {
    /// Whose pages these are.
    tenant: TenantName,
    from_ms: i64,
    to_ms: i64,
    /// The last entry: what the list is ordered by.
    pub after: A,
}

impl<A: Serialize + DeserializeOwned> Cursor<A> {
    /// A cursor behind `after`.
    pub fn new(tenant: &TenantName, range: Range, after: A) -> Self {
        Self { tenant: tenant.clone(), from_ms: range.from_ms, to_ms: range.to_ms, after }
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
        let after = || (3, "it's / 🦀".to_owned());
        let cursor = Cursor::new(&acme, Range { from_ms: 1, to_ms: 2 }, after());
        assert_eq!(Cursor::decode(&cursor.encode(), &acme), Ok(cursor.clone()));
        assert_eq!(
            Cursor::<(u64, String)>::decode(&cursor.encode(), &wayne).unwrap_err().field(),
            Some("cursor")
        );
        let endless = Cursor::new(&acme, Range { from_ms: 0, to_ms: i64::MAX }, after());
        let backward = Cursor::new(&acme, Range { from_ms: 2, to_ms: 1 }, after());
        assert!(Cursor::<u64>::decode(&cursor.encode(), &acme).is_err(), "another route's");
        for bad in ["", "x", "{}", "e30", &endless.encode(), &backward.encode()] {
            assert!(Cursor::<(u64, String)>::decode(bad, &acme).is_err(), "{bad}");
        }
    }
}
