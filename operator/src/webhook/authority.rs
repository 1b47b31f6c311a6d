//! Who signs the webhook's certificates, and what is to be done about it. Pure: certificates are made elsewhere.
//!
//! An authority is made, told to the kube-apiserver beside the one before it, and only then signs: so no certificate is ever served
//! that the kube-apiserver does not trust. What stands in the Secret is this, as JSON, newest first.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long the kube-apiserver may take, after it was told of an authority, until it trusts it, at most.
const SETTLES_AT_MOST_MS: i64 = 3_600_000;

/// How long authorities and certificates are valid.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// An authority.
    pub authority: Duration,
    /// A certificate that it signs.
    pub certificate: Duration,
}

impl Lifetimes {
    fn settles_ms(&self) -> i64 {
        (millis(self.authority) / 10).min(SETTLES_AT_MOST_MS)
    }
}

/// One authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Its certificate, DER.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub certificate: Vec<u8>,
    /// Its private key, PKCS #8.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub key: Vec<u8>,
    /// The time that it is valid.
    #[serde(flatten)]
    pub span: Span,
    /// When the kube-apiserver had been told of it, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_ms: Option<i64>,
}

/// The key stays out of logs.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("span", &self.span)
            .field("told_ms", &self.told_ms)
            .finish_non_exhaustive()
    }
}

/// The time that something is valid, Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// When it was made.
    pub made_ms: i64,
    /// When it ends.
    pub ends_ms: i64,
}

impl Span {
    /// From now on, for so long.
    pub fn starting(now_ms: i64, lasts: Duration) -> Self {
        Self { made_ms: now_ms, ends_ms: now_ms.saturating_add(millis(lasts)) }
    }

    /// Whether it has not ended.
    pub fn is_live(&self, now_ms: i64) -> bool {
        now_ms < self.ends_ms
    }

    /// Whether two thirds of it are over: time for the next.
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.ends_ms - (self.ends_ms - self.made_ms) / 3
    }
}

/// All authorities that may have signed a certificate which is still served, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authorities(Vec<Authority>);

/// What the leader is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Make an authority and keep it in the Secret.
    Make,
    /// Tell the kube-apiserver whom to trust.
    Tell(String),
    /// Note in the Secret that it was told, so that the newest authority may sign.
    Note,
}

impl Authorities {
    /// What is to be done. `trusted`: what the kube-apiserver trusts now.
    pub fn plan(&self, trusted: Option<&str>, now_ms: i64) -> Step {
        let Some(newest) = self.0.first().filter(|newest| !newest.span.is_due(now_ms)) else {
            return Step::Make;
        };
        let bundle = self.bundle(now_ms);
        if trusted != Some(bundle.as_str()) {
            return Step::Tell(bundle);
        }
        if newest.told_ms.is_none() { Step::Note } else { Step::Rest }
    }

    /// With a new one, and without those that have ended.
    #[must_use]
    pub fn with(&self, newest: Authority, now_ms: i64) -> Self {
        let live = self.0.iter().filter(|known| known.span.is_live(now_ms)).cloned();
        Self(std::iter::once(newest).chain(live).collect())
    }

    /// The same, the kube-apiserver having been told of all of them.
    #[must_use]
    pub fn told(mut self, now_ms: i64) -> Self {
        for authority in &mut self.0 {
            authority.told_ms.get_or_insert(now_ms);
        }
        self
    }

    /// Who signs now: the newest one that the kube-apiserver has had time to trust. Before there is such a one any may: nothing is
    /// served yet that it could break.
    pub fn signer(&self, lifetimes: Lifetimes, now_ms: i64) -> Option<&Authority> {
        let settled = |authority: &&Authority| {
            authority.told_ms.is_some_and(|told_ms| now_ms >= told_ms.saturating_add(lifetimes.settles_ms()))
        };
        let live = || self.0.iter().filter(|known| known.span.is_live(now_ms));
        live()
            .find(settled)
            .or_else(|| live().rfind(|known| known.told_ms.is_some()))
            .or_else(|| live().next())
    }

    /// Whether the holder of this certificate is among them and has not ended.
    pub fn trusts(&self, certificate: &[u8], now_ms: i64) -> bool {
        self.0.iter().any(|known| known.certificate == certificate && known.span.is_live(now_ms))
    }

    /// The newest one's time.
    pub fn newest(&self) -> Option<Span> {
        self.0.first().map(|newest| newest.span)
    }

    /// The certificates of all that have not ended, as PEM.
    fn bundle(&self, now_ms: i64) -> String {
        let live = self.0.iter().filter(|known| known.span.is_live(now_ms));
        live.map(|known| pem(&known.certificate)).collect()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A certificate as text, lines of 64 characters.
fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at.is_multiple_of(64) {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push_str("\n-----END CERTIFICATE-----\n");
    lines
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const LIFETIMES: Lifetimes = Lifetimes {
        authority: Duration::from_secs(365 * 86_400),
        certificate: Duration::from_secs(7 * 86_400),
    };

    fn authority(name: u8, made_ms: i64) -> Authority {
        let span = Span::starting(made_ms, LIFETIMES.authority);
        Authority { certificate: vec![name; 50], key: vec![0x5e; 9], span, told_ms: None }
    }

    /// Does what the plan says until it says nothing; gives the steps' names.
    fn settle(
        authorities: &mut Authorities,
        trusted: &mut Option<String>,
        name: u8,
        now_ms: i64,
    ) -> Vec<&'static str> {
        let mut done = Vec::new();
        loop {
            match authorities.plan(trusted.as_deref(), now_ms) {
                Step::Rest => return done,
                Step::Make => {
                    *authorities = authorities.with(authority(name, now_ms), now_ms);
                    done.push("make");
                }
                Step::Tell(bundle) => {
                    *trusted = Some(bundle);
                    done.push("tell");
                }
                Step::Note => {
                    *authorities = authorities.clone().told(now_ms);
                    done.push("note");
                }
            }
        }
    }

    #[test]
    fn an_authority_signs_only_after_the_apiserver_was_told_of_it_beside_the_old_one() {
        let (mut authorities, mut trusted) = (Authorities::default(), None);
        assert_eq!(settle(&mut authorities, &mut trusted, 1, 0), ["make", "tell", "note"]);
        let signer =
            |authorities: &Authorities, now_ms| authorities.signer(LIFETIMES, now_ms).unwrap().certificate[0];
        assert_eq!(signer(&authorities, 0), 1, "nothing is served yet");
        assert_eq!(settle(&mut authorities, &mut trusted, 2, 200 * DAY_MS), [""; 0]);

        let due = 244 * DAY_MS;
        assert_eq!(authorities.plan(trusted.as_deref(), due), Step::Make);
        authorities = authorities.with(authority(2, due), due);
        let Step::Tell(bundle) = authorities.plan(trusted.as_deref(), due) else { panic!("it is told of") };
        assert_eq!(bundle.matches("BEGIN").count(), 2, "old and new");
        assert_eq!(signer(&authorities, due + DAY_MS), 1, "not told of, however long that takes");
        assert_eq!(settle(&mut authorities, &mut trusted, 9, due), ["tell", "note"]);
        assert_eq!((signer(&authorities, due + 1), signer(&authorities, due + 3_600_000)), (1, 2));

        let ended = 366 * DAY_MS;
        assert_eq!(
            settle(&mut authorities, &mut trusted, 9, ended),
            ["tell"],
            "the old one is trusted no more"
        );
        assert_eq!(trusted.unwrap().matches("BEGIN").count(), 1);
        assert!(authorities.trusts(&[2; 50], ended) && !authorities.trusts(&[1; 50], ended));
    }

    #[test]
    fn whoever_takes_over_goes_on_where_the_old_leader_stopped() {
        let made = Authorities::default().with(authority(1, 0), 0);
        assert!(matches!(made.plan(None, 1), Step::Tell(_)), "it made one and told nobody");
        let Step::Tell(bundle) = made.plan(Some("a stranger's"), 1) else {
            panic!("what is wrong is put right")
        };
        assert_eq!(made.plan(Some(&bundle), 1), Step::Note, "it told and did not note it");
    }

    #[test]
    fn the_secret_holds_what_it_held_and_a_log_line_holds_no_key() {
        let authorities = Authorities::default().with(authority(7, 5), 5).told(6);
        let text = serde_json::to_string(&authorities).unwrap();
        assert_eq!(serde_json::from_str::<Authorities>(&text).unwrap(), authorities);
        let key = STANDARD.encode([0x5e; 9]);
        assert!(text.contains(&key) && !format!("{authorities:?}").contains("94"), "{authorities:?}");
    }

    #[test]
    fn certificates_are_written_in_lines_that_everybody_reads() {
        let text = pem(&[1; 100]);
        assert!(text.lines().all(|line| line.len() <= 64) && text.lines().count() == 5, "{text}");
    }
}
