use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::netns::run;
use super::{Authority, Daemon, NODES, Netns, ROUTER, State, workspace};

/// The box's file, for the lab.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its file, sockets and state go.
    pub directory: PathBuf,
    /// The text.
    pub toml: String,
}

impl Settings {
    /// The whole appliance of the lab: nodes by IPv4 dialled, nodes by IPv6 accepted from a range, router above.
    pub fn lab(state: &State, manifests: &Path, authority: Option<&Authority>) -> Self {
        let directory = state.file("appliance");
        let mut toml = format!(
            r#"[appliance]
name = "edge-1"
state_dir = "{dir}/state"
run_dir = "{dir}/run"
admin = "127.0.0.1:9901"

[listen]
http = ["0.0.0.0:80", "[::]:80"]
https = ["0.0.0.0:443", "[::]:443"]

[source]
manifests = "{manifests}"
ingress_class = "sekisho"
routing = "required"

[bgp]
asn = 64512
router_id = "10.0.0.10"
listen = ["0.0.0.0:179", "[::]:179"]
hold_time = "9s"
install_routes = true

"#,
            dir = directory.display(),
            manifests = manifests.display(),
        );
        for node in NODES {
            let _ = write!(
                toml,
                "[[bgp.peers]]\nname = \"{}\"\naddress = \"{}\"\nasn = 64512\nrole = \"cluster\"\n\n",
                node.name,
                node.v4()
            );
        }
        let _ = write!(
            toml,
            "[[bgp.peer_ranges]]\nprefix = \"fd00:10::/64\"\nasn = 64512\nrole = \"cluster\"\n\n"
        );
        for (name, address) in [
            ("router-v4", ROUTER.v4.to_string()),
            ("router-v6", ROUTER.v6.to_string()),
        ] {
            let _ = write!(
                toml,
                "[[bgp.peers]]\nname = \"{name}\"\naddress = \"{address}\"\nasn = 64500\nrole = \"upstream\"\n\n"
            );
        }
        toml.push_str(
            "[[vips]]\nname = \"public\"\naddresses = [\"203.0.113.0/28\", \"2001:db8:1::/112\"]\nannounce_to = [\"upstream\"]\n\n",
        );
        if let Some(authority) = authority {
            let _ = write!(
                toml,
                "[acme]\ndirectory = \"{}\"\nemail = \"ops@example.com\"\nca_file = \"{}\"\n",
                authority.directory,
                authority.web_root.display()
            );
        }
        Self { directory, toml }
    }
}

/// The running appliance.
#[derive(Debug)]
pub struct Appliance {
    /// Its process.
    pub daemon: Daemon,
    netns: Option<Netns>,
    file: PathBuf,
}

impl Appliance {
    /// The `sekisho` binary: `SEKISHO`, or the one built last under the target directory.
    ///
    /// # Errors
    /// When there is none.
    pub fn binary() -> Result<PathBuf> {
        if let Some(path) = std::env::var_os("SEKISHO") {
            return Ok(path.into());
        }
        let here = std::env::current_exe()?;
        let beside = here
            .ancestors()
            .skip(1)
            .take(2)
            .map(|directory| directory.join("sekisho"));
        let built = ["lab", "release", "debug"]
            .map(|profile| workspace().join("target").join(profile).join("sekisho"));
        beside
            .chain(built)
            .find(|path| path.is_file())
            .context("no sekisho binary; build it (cargo build --profile lab) or name it in SEKISHO")
    }

    /// Starts it in `netns`, or in the program's own namespaces.
    ///
    /// # Errors
    /// When the binary is missing or the file cannot be written.
    pub fn start(state: &State, netns: Option<&Netns>, settings: &Settings) -> Result<Self> {
        Self::start_other(state, netns, settings, &Self::binary()?)
    }

    /// As [`Appliance::start`], of another build.
    ///
    /// # Errors
    /// When it is missing or the file cannot be written.
    pub fn start_other(
        state: &State,
        netns: Option<&Netns>,
        settings: &Settings,
        binary: &Path,
    ) -> Result<Self> {
        let dir = &settings.directory;
        for sub in ["state", "run"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let file = dir.join("sekisho.toml");
        fs::write(&file, &settings.toml)?;
        let mut command = command_in(netns, binary);
        command.arg("run").arg("--config").arg(&file);
        let daemon = Daemon::start(state, "sekisho", command)?;
        Ok(Self {
            daemon,
            netns: netns.cloned(),
            file,
        })
    }

    /// The box's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A command of the command line, against this appliance.
    ///
    /// # Errors
    /// When the binary is missing.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = command_in(self.netns.as_ref(), &Self::binary()?);
        command.args(words).arg("--config").arg(&self.file);
        Ok(command)
    }

    /// Runs a reading command and gives its text.
    ///
    /// # Errors
    /// What it said.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        run(&mut self.command(words)?)
    }

    /// Runs a reading command with `--json`.
    ///
    /// # Errors
    /// What it said.
    pub fn json(&self, words: &[&str]) -> Result<serde_json::Value> {
        let text = run(self.command(words)?.arg("--json"))?;
        serde_json::from_str(&text).with_context(|| format!("{words:?} --json printed {text:.200}"))
    }

    /// Asks it to end; fails unless it ends well within `limit`.
    ///
    /// # Errors
    /// When it does not end, or with another code than 0.
    pub fn stop(self, limit: Duration) -> Result<Duration> {
        match self.daemon.stop(limit)? {
            (0, took) => Ok(took),
            (code, _) => bail!("sekisho ended with code {code}"),
        }
    }
}

fn command_in(netns: Option<&Netns>, binary: &Path) -> Command {
    netns.map_or_else(|| Command::new(binary), |netns| netns.command(binary))
}
