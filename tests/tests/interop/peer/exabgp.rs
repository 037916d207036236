//! ExaBGP: it keeps no table, so a script beside it writes down what it hears.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use sekisho_tests::lab::{Daemon, Netns, State, package};
use serde_json::Value;

use crate::rig::PEER_V4;

pub(super) struct ExaBgp {
    pub(super) daemon: Daemon,
    orders: PathBuf,
    heard: PathBuf,
}

impl ExaBgp {
    pub(super) fn start(state: &State, netns: &Netns, configuration: &str) -> Result<Self> {
        let (orders, heard) = (state.file("exabgp.orders"), state.file("exabgp.heard"));
        let (script, file) = (state.file("exabgp.sh"), state.file("exabgp.conf"));
        fs::write(&orders, "")?;
        fs::write(&heard, "")?;
        fs::write(
            &script,
            format!(
                "tail -n +1 -f {} &\ntrap 'kill $!' EXIT TERM\ncat >>{}\n",
                orders.display(),
                heard.display()
            ),
        )?;
        fs::write(
            &file,
            configuration.replace("SCRIPT", &script.display().to_string()),
        )?;
        let root = package("exabgp");
        ensure!(
            root.join("usr/lib/python3/dist-packages/exabgp").is_dir(),
            "exabgp is missing; run tests/install"
        );
        // Where the system has no Python the package's dependencies brought one.
        let own = root.join("usr/bin/python3");
        let python = if own.exists() {
            own
        } else {
            "/usr/bin/python3".into()
        };
        let mut command = netns.command(python);
        command
            .args(["-m", "exabgp"])
            .arg(&file)
            .env("PYTHONPATH", root.join("usr/lib/python3/dist-packages"))
            .env("exabgp.daemon.user", "root")
            .env("exabgp.daemon.drop", "false")
            .env("exabgp.api.cli", "false")
            .env("exabgp.api.ack", "false")
            .env("exabgp.log.destination", "stdout")
            .env("exabgp.tcp.bind", PEER_V4.to_string());
        Ok(Self {
            daemon: Daemon::start(state, "peer", command)?,
            orders,
            heard,
        })
    }

    /// Gives it a line of its API.
    pub(super) fn order(&self, line: &str) -> Result<()> {
        Ok(writeln!(
            File::options().append(true).open(&self.orders)?,
            "{line}"
        )?)
    }

    fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.heard)?;
        // The last line may be on its way.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    pub(super) fn established(&self) -> Result<()> {
        let events = self.events()?;
        let state = events
            .iter()
            .rev()
            .find_map(|event| event.pointer("/neighbor/state")?.as_str());
        match state {
            Some("up") => Ok(()),
            other => bail!("its last state is {other:?}"),
        }
    }

    /// Plays everything that it heard, in order.
    pub(super) fn heard(&self, prefix: &str) -> Result<()> {
        let mut there = false;
        for event in self.events()? {
            if event.pointer("/neighbor/state").and_then(Value::as_str) == Some("down") {
                there = false;
            }
            let said = |what: &str| {
                let part = event.pointer(&format!("/neighbor/message/update/{what}"));
                part.is_some_and(|part| part.to_string().contains(&format!("\"{prefix}\"")))
            };
            there = (there && !said("withdraw")) || said("announce");
        }
        if there {
            return Ok(());
        }
        bail!("it has not heard {prefix}")
    }
}
