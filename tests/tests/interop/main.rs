//! Interoperability with real daemons, each case in namespaces of its own.
//!
//! `interop [PART OF A NAME]` runs the cases; each is this program started again with `--case NAME`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use sekisho_tests::lab::{Lab, NODE1, NODE2, NODE3, State, enter};

fn main() -> ExitCode {
    match enter().and_then(|state| lab_stands(&state)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The lab without the appliance: nodes know each other's blocks and pods reach each other across nodes.
fn lab_stands(state: &State) -> Result<()> {
    let mut lab = Lab::raise(state)?;
    lab.start_pod(NODE1, "web-1", NODE1.pod(2))?;
    lab.start_pod(NODE3, "web-3", NODE1.pod(5))?;
    let outcome = lab.wait_for_mesh(Duration::from_secs(40));
    if outcome.is_err() {
        eprintln!("{}", state.tails(20));
    }
    eprintln!("mesh {:?}", outcome?);
    let (bird, _) = lab.bird(NODE2)?;
    eprintln!("{}", bird.birdc("show route")?);
    eprintln!("{}", bird.birdc("show protocols")?);
    eprintln!("{}", lab.node(NODE2)?.ip("route")?);
    eprintln!("{}", lab.node(NODE2)?.ip("-6 route")?);
    let pod = NODE1.pod(5);
    let got = lab.node(NODE2)?.ip(&format!("route get {}", pod.v4))?;
    ensure!(got.contains("10.0.0.13"), "{got}");
    Ok(())
}
