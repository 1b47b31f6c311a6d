//! Whether an owner may have the external objects that stand under its names.

use crds::tenant::Adoption;
use event::{Observed, Ownership, Stamp};

use crate::conditions::Why;
use crate::errors::{Failure, System};

/// What was found under a name of an owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Something with this stamp; `None` when it carries none that is complete.
    Present(Option<Stamp>),
}

impl Found {
    /// From what a system says of one object.
    ///
    /// # Errors
    /// When it did not say what is there: nothing may be concluded from that.
    pub fn of<T>(
        observed: &Observed<T>,
        system: System,
        stamp: impl Fn(&T) -> Option<Stamp>,
    ) -> Result<Self, Failure> {
        match observed {
            Observed::Unknown(reason) => Err(Failure::unknown(system, reason)),
            Observed::Absent => Ok(Self::Absent),
            Observed::Present(state) => Ok(Self::Present(stamp(state))),
        }
    }
}

/// Who claims external objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The installation.
    pub installation: &'a str,
    /// Its kind, as kubectl takes it.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Its name on stamps.
    pub stamped: &'a str,
    /// UID of the resource.
    pub uid: &'a str,
    /// Whether it may take over what an earlier one left behind.
    pub adoption: Adoption,
}

/// The stamp under which an owner has its objects, and whether they must be taken over first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The stamp that every object gets.
    pub stamp: Stamp,
    /// Objects stand there that carry another stamp of the same lineage.
    pub adopt: bool,
}

/// Decides whether an owner may have what stands under its names.
///
/// # Errors
/// Why not: data that were retained, that another owner never gave back, or that are not ours.
pub fn claim(owner: &Owner<'_>, found: &[(&str, Found)]) -> Result<Claim, Why> {
    let mut lineage: Option<&str> = None;
    let mut adopt = false;
    for (what, found) in found {
        let stamp = match found {
            Found::Absent => continue,
            Found::Present(None) => return Err(not_ours(owner, what)),
            Found::Present(Some(stamp)) => stamp,
        };
        let allowed = owner.adoption;
        match stamp.ownership(owner.installation, owner.stamped, owner.uid) {
            Ownership::Ours => {}
            Ownership::Foreign => return Err(not_ours(owner, what)),
            Ownership::Released if allowed == Adoption::Never => {
                return Err(undecided("RetainedDataExists", "released", what, owner, "Released"));
            }
            Ownership::Orphaned if allowed != Adoption::Force => {
                return Err(undecided("OrphanedDataExists", "never released", what, owner, "Force"));
            }
            Ownership::Released | Ownership::Orphaned => adopt = true,
        }
        match lineage {
            Some(lineage) if lineage != stamp.lineage => {
                let message =
                    format!("{what} belongs to another lineage than the rest of the {}'s data", owner.kind);
                return Err(Why::new("LineageConflict", message));
            }
            _ => lineage = Some(&stamp.lineage),
        }
    }
    let stamp = Stamp {
        installation: owner.installation.to_owned(),
        tenant: owner.stamped.to_owned(),
        uid: owner.uid.to_owned(),
        lineage: lineage.unwrap_or(owner.uid).to_owned(),
        released: false,
    };
    Ok(Claim { stamp, adopt })
}

fn not_ours(owner: &Owner<'_>, what: &str) -> Why {
    let message = format!("{what} exists and was not created for this {} by this installation", owner.kind);
    Why::new("NotOurs", message)
}

fn undecided(reason: &str, how: &str, what: &str, owner: &Owner<'_>, adoption: &str) -> Why {
    let Owner { kind, name, .. } = owner;
    let command =
        format!(r#"kubectl patch {kind} {name} --type merge -p '{{"spec":{{"adoption":"{adoption}"}}}}'"#);
    let message = format!(
        "{what} holds data of an earlier {kind} {name} that were {how}; to take them over: {command}"
    );
    Why::new(reason, message)
}
