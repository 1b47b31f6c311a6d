//! The cluster through `kubectl`: the same program and the same files that a person uses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{Cancel, Error, Paths, Result, run};

/// A kubectl with its kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cancel: Cancel,
}

impl Kubectl {
    /// Uses this program with this kubeconfig.
    pub fn new(program: &Path, kubeconfig: &Path, cancel: &Cancel) -> Self {
        Self { program: program.into(), kubeconfig: kubeconfig.into(), cancel: cancel.clone() }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it with arguments and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Program`] with its own words.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(Paths::inherited()).env("KUBECONFIG", &self.kubeconfig).args(args);
        run::output(&mut command, &format!("kubectl {}", args.join(" ")), &self.cancel)
    }

    /// As [`Kubectl::run`] with `--output=json`.
    ///
    /// # Errors
    /// Also when the answer is no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[args, &["--output=json"]].concat())?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Format { what: "kubectl's answer".into(), detail: e.to_string() })
    }

    /// Applies files and folders in this order, on the server, as the owner of every field in them.
    ///
    /// # Errors
    /// When the apiserver refuses one of the objects.
    pub fn apply(&self, files: &[PathBuf]) -> Result<()> {
        let mut args = vec!["apply", "--server-side", "--force-conflicts", "--field-manager=xtask"];
        let files: Vec<String> = files.iter().map(|file| format!("--filename={}", file.display())).collect();
        args.extend(files.iter().map(String::as_str));
        self.run(&args).map(drop)
    }

    /// Waits until objects have a condition, e.g. `condition=Ready`, in all namespaces or none.
    ///
    /// # Errors
    /// When one of them has not within the time.
    pub fn wait(&self, condition: &str, objects: &[&str], within: Duration) -> Result<()> {
        let (condition, within) = (format!("--for={condition}"), format!("--timeout={}s", within.as_secs()));
        self.run(&[&["wait", condition.as_str(), within.as_str()], objects].concat()).map(drop)
    }

    /// A token of a service account: for the apiserver itself, or for another audience.
    ///
    /// # Errors
    /// When there is no such service account.
    pub fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        lasts: Duration,
    ) -> Result<String> {
        let duration = format!("--duration={}s", lasts.as_secs());
        let audience = audience.map(|audience| format!("--audience={audience}"));
        let mut args = vec!["create", "token", account, "--namespace", namespace, duration.as_str()];
        args.extend(audience.as_deref());
        self.run(&args).map(|token| token.trim().to_owned())
    }
}

/// The content of a kubeconfig for the apiserver on this port.
pub fn kubeconfig(port: u16, ca: &Path, user: &str, token_file: &Path) -> String {
    let (ca, token_file) = (ca.display(), token_file.display());
    format!(
        r#"apiVersion: v1
kind: Config
current-context: meterplane
contexts:
- name: meterplane
  context: {{cluster: meterplane, user: {user}}}
clusters:
- name: meterplane
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority: "{ca}"
users:
- name: {user}
  user:
    tokenFile: "{token_file}"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_server_authority_and_token() {
        let text = kubeconfig(6443, Path::new("/d/ca.crt"), "operator", Path::new("/d/operator.token"));
        let config: Value = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority"], "/d/ca.crt");
        assert_eq!(config["users"][0]["user"]["tokenFile"], "/d/operator.token");
        assert_eq!(config["contexts"][0]["context"]["user"], "operator");
    }
}
