//! Tools that `go install` builds from the pinned modules in `xtask/tools/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Workshop, says_version};
use crate::run::{Line, output, run};
use crate::{Error, Result};

/// Kubernetes programs call themselves `v0.0.0-master` unless they are linked with their version.
const KUBERNETES_VERSION: &str = "k8s.io/component-base/version";

/// One program.
struct GoTool {
    /// What we and PATH call it.
    name: &'static str,
    /// Its package.
    package: &'static str,
    /// Its module in go.mod, which pins the version.
    module: &'static str,
    /// The arguments that make it tell its version.
    ask: &'static [&'static str],
    /// What a person should expect, the first time.
    cost: &'static str,
}

/// A module of tools.
struct Group {
    folder: &'static str,
    tags: &'static str,
    /// The module whose version is linked into the programs.
    linked: Option<&'static str>,
    tools: &'static [GoTool],
}

const GROUPS: [Group; 2] = [
    Group {
        folder: "cluster",
        tags: "",
        linked: Some("k8s.io/kubernetes"),
        tools: &[
            GoTool {
                name: "nats-server",
                package: "github.com/nats-io/nats-server/v2",
                module: "github.com/nats-io/nats-server/v2",
                ask: &["--version"],
                cost: "about a minute on two cores",
            },
            GoTool {
                name: "etcd",
                package: "go.etcd.io/etcd/server/v3",
                module: "go.etcd.io/etcd/server/v3",
                ask: &["--version"],
                cost: "about a minute on two cores",
            },
            GoTool {
                name: "kube-apiserver",
                package: "k8s.io/kubernetes/cmd/kube-apiserver",
                module: "k8s.io/kubernetes",
                ask: &["--version"],
                cost: "5 to 8 minutes on two cores",
            },
            GoTool {
                name: "kubectl",
                package: "k8s.io/kubernetes/cmd/kubectl",
                module: "k8s.io/kubernetes",
                ask: &["version", "--client", "--output=json"],
                cost: "half a minute on two cores",
            },
            GoTool {
                name: "kube-controller-manager",
                package: "k8s.io/kubernetes/cmd/kube-controller-manager",
                module: "k8s.io/kubernetes",
                ask: &["--version"],
                cost: "3 minutes on two cores",
            },
        ],
    },
    Group {
        folder: "vault",
        tags: "minimal",
        linked: None,
        tools: &[GoTool {
            name: "vault",
            package: "github.com/hashicorp/vault",
            module: "github.com/hashicorp/vault",
            ask: &["version"],
            cost: "5 to 10 minutes on two cores",
        }],
    },
];

/// What only tests of the chart need: built when they are run, so that nobody else waits for it.
const CHART_GROUPS: [Group; 2] = [
    Group {
        folder: "cluster",
        tags: "",
        linked: Some("k8s.io/kubernetes"),
        tools: &[
            GoTool {
                name: "helm",
                package: "helm.sh/helm/v4/cmd/helm",
                module: "helm.sh/helm/v4",
                ask: &["version", "--template={{.Version}}"],
                cost: "a minute on two cores",
            },
            GoTool {
                name: "kube-scheduler",
                package: "k8s.io/kubernetes/cmd/kube-scheduler",
                module: "k8s.io/kubernetes",
                ask: &["--version"],
                cost: "some seconds beside kube-apiserver",
            },
        ],
    },
    Group {
        folder: "kwok",
        tags: "",
        linked: None,
        tools: &[GoTool {
            name: "kwok",
            package: "sigs.k8s.io/kwok/cmd/kwok",
            module: "sigs.k8s.io/kwok",
            ask: &["--version"],
            cost: "2 to 3 minutes on two cores",
        }],
    },
];

/// A program of ours around somebody else's library, built when it is asked for.
pub(super) struct OwnTool {
    group: Group,
    tool: GoTool,
}

impl OwnTool {
    const fn new(
        name: &'static str,
        package: &'static str,
        module: &'static str,
        cost: &'static str,
    ) -> Self {
        let group = Group { folder: name, tags: "", linked: None, tools: &[] };
        Self { group, tool: GoTool { name, package, module, ask: &[], cost } }
    }
}

/// What benches compare with.
pub(super) const PUBLISHER: OwnTool =
    OwnTool::new("publisher", "meterplane.io/tools/publisher", "github.com/nats-io/nats.go", "some seconds");

/// What others' tools make of our objects' status.
pub(super) const VERDICT: OwnTool = OwnTool::new(
    "verdict",
    "meterplane.io/tools/verdict",
    "sigs.k8s.io/cli-utils",
    "half a minute on two cores",
);

/// What reads alerts and panels as Prometheus does.
pub(super) const PROMRULES: OwnTool = OwnTool::new(
    "promrules",
    "meterplane.io/tools/promrules",
    "github.com/prometheus/prometheus",
    "half a minute on two cores",
);

/// What syncs our objects from Git as Argo CD does.
pub(super) const ARGOCD: OwnTool = OwnTool::new(
    "argocd",
    "meterplane.io/tools/argocd",
    "github.com/argoproj/argo-cd/v3",
    "5 to 10 minutes on two cores",
);

/// Finds or builds a program of ours.
pub(super) fn own(workshop: &Workshop<'_>, OwnTool { group, tool }: &OwnTool) -> Result<PathBuf> {
    let pins = workshop.pins(group.folder);
    let files = ["go.mod", "go.sum", "main.go"].map(|file| pins.join(file));
    let go_mod =
        fs::read_to_string(&files[0]).map_err(Error::io(format!("cannot read {}", files[0].display())))?;
    let flags = flags(group, &go_mod)?;
    let shelf = workshop.shelf(&[&files[0], &files[1], &files[2]], &flags.join(" "))?;
    let wanted = shelf.join("bin").join(tool.name);
    if !wanted.is_file() {
        build(workshop, tool, &pins, &shelf, &flags)?;
    }
    Ok(wanted)
}

/// Programs by name.
pub(super) struct Found(BTreeMap<&'static str, PathBuf>);

impl Found {
    /// The program of this name.
    pub(super) fn get(&self, name: &str) -> Result<PathBuf> {
        self.0.get(name).cloned().ok_or_else(|| Error::Missing {
            what: name.into(),
            remedy: "add it to GROUPS in xtask/src/tools/go.rs".into(),
        })
    }
}

/// Finds or builds every Go tool of the platform.
pub(super) fn ensure(workshop: &Workshop<'_>) -> Result<Found> {
    find(workshop, &GROUPS)
}

/// Finds or builds what tests of the chart need besides.
pub(super) fn chart(workshop: &Workshop<'_>) -> Result<Found> {
    find(workshop, &CHART_GROUPS)
}

/// The source of a pinned module, as Go keeps it.
pub(super) fn source(workshop: &Workshop<'_>, group: &str, module: &str) -> Result<PathBuf> {
    let mut command = Command::new("go");
    command.current_dir(workshop.pins(group)).args(["mod", "download", "-json", module]);
    let answer = output(&mut command, &format!("go mod download {module}"), workshop.cancel)?;
    let wrong = |detail: String| Error::Format { what: "go's answer".into(), detail };
    let answer: serde_json::Value =
        serde_json::from_str(&answer).map_err(|error| wrong(error.to_string()))?;
    answer["Dir"].as_str().map(PathBuf::from).ok_or_else(|| wrong(format!("it has no folder of {module}")))
}

/// One after the other: two builds at once would only compete for the same cores and memory.
fn find(workshop: &Workshop<'_>, groups: &[Group]) -> Result<Found> {
    let mut found = BTreeMap::new();
    for group in groups {
        let pins = workshop.pins(group.folder);
        let (mod_file, sum_file) = (pins.join("go.mod"), pins.join("go.sum"));
        let go_mod = fs::read_to_string(&mod_file)
            .map_err(Error::io(format!("cannot read {}", mod_file.display())))?;
        let flags = flags(group, &go_mod)?;
        let shelf = workshop.shelf(&[&mod_file, &sum_file], &flags.join(" "))?;
        for tool in group.tools {
            let wanted = shelf.join("bin").join(tool.name);
            let program = if wanted.is_file() {
                wanted
            } else if let Some(program) = suitable_on_path(workshop, tool, &go_mod)? {
                program
            } else {
                build(workshop, tool, &pins, &shelf, &flags)?;
                wanted
            };
            found.insert(tool.name, program);
        }
    }
    Ok(Found(found))
}

fn suitable_on_path(workshop: &Workshop<'_>, tool: &GoTool, go_mod: &str) -> Result<Option<PathBuf>> {
    let version = pinned(go_mod, tool.module)?;
    Ok(workshop.on_path(tool.name, tool.ask, |answer| says_version(answer, version)))
}

/// Builds one program into the shelf. It appears there by a rename, so what is on a shelf is complete.
fn build(workshop: &Workshop<'_>, tool: &GoTool, pins: &Path, shelf: &Path, flags: &[String]) -> Result<()> {
    let task =
        workshop.progress.task(tool.name, &format!("built once from its pinned source: {}", tool.cost));
    let _lock = workshop.lock(shelf, || task.note("another process builds it"))?;
    let wanted = shelf.join("bin").join(tool.name);
    if wanted.is_file() {
        task.done("built by another process");
        return Ok(());
    }
    let partial = shelf.join("partial");
    for folder in [&partial, &shelf.join("bin")] {
        fs::create_dir_all(folder).map_err(Error::io(format!("cannot create {}", folder.display())))?;
    }
    let go = |verb: &str| {
        let mut command = Command::new("go");
        // No VCS stamp: the pins decide what is built, not the commit of this repository.
        command.current_dir(pins).env("GOFLAGS", "-buildvcs=false").env("GOBIN", &partial).arg(verb);
        command
    };
    let what = format!("go install {}", tool.package);
    let listed = output(go("list").args(["-deps", tool.package]), &what, workshop.cancel)?;
    let total = listed.lines().count();
    task.measured(u64::try_from(total).unwrap_or(u64::MAX));
    let mut compiled = 0_u64;
    run(go("install").arg("-v").args(flags).arg(tool.package), &what, workshop.cancel, |line| {
        if let Line::Err(package) = line {
            compiled += 1;
            task.position(compiled);
            task.comment(&format!("{compiled} of at most {total} packages compiled, now {package}"));
        }
    })?;
    let built = partial.join(installed_name(tool.package));
    fs::rename(&built, &wanted)
        .map_err(Error::io(format!("cannot move {} into the cache", built.display())))?;
    task.done(&format!("built into {}", wanted.display()));
    Ok(())
}

/// What `go install` calls the program: the package's last element, or the one before a major version.
fn installed_name(package: &str) -> &str {
    let mut elements = package.rsplit('/');
    let last = elements.next().unwrap_or(package);
    let major = last.strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok());
    if major { elements.next().unwrap_or(last) } else { last }
}

/// The flags of `go install`. They are part of the shelf's name.
fn flags(group: &Group, go_mod: &str) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    if !group.tags.is_empty() {
        flags.extend(["-tags".to_owned(), group.tags.to_owned()]);
    }
    flags.push("-trimpath".to_owned());
    let mut link = "-s -w".to_owned();
    if let Some(module) = group.linked {
        let version = pinned(go_mod, module)?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        for (variable, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
            link.push_str(&format!(" -X {KUBERNETES_VERSION}.{variable}={value}"));
        }
    }
    flags.push(format!("-ldflags={link}"));
    Ok(flags)
}

/// The version that go.mod requires of a module.
fn pinned<'a>(go_mod: &'a str, module: &str) -> Result<&'a str> {
    let required = go_mod.lines().find_map(|line| {
        let line = line.trim().trim_start_matches("require ");
        line.strip_prefix(module)?.strip_prefix(' ')?.split_whitespace().next().filter(|v| v.starts_with('v'))
    });
    required
        .ok_or_else(|| Error::Format { what: "go.mod".into(), detail: format!("it requires no {module}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_MOD: &str = "replace k8s.io/kubernetes-x => k8s.io/y v0.1.0\nrequire (\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";

    #[test]
    fn versions_come_from_go_mod() {
        assert_eq!(pinned(GO_MOD, "k8s.io/kubernetes").unwrap(), "v1.36.3");
        assert!(pinned(GO_MOD, "k8s.io/kube").is_err());
    }

    #[test]
    fn kubernetes_programs_are_linked_with_their_version() {
        let flags = flags(&GROUPS[0], GO_MOD).unwrap();
        assert_eq!(flags[0], "-trimpath");
        assert!(flags[1].ends_with("gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"));
    }

    #[test]
    fn go_names_programs_by_their_path() {
        assert_eq!(installed_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(installed_name("k8s.io/kubernetes/cmd/kubectl"), "kubectl");
        assert_eq!(installed_name("github.com/hashicorp/vault"), "vault");
    }
}
