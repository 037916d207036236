//! The appliance with real BGP daemons, each case in namespaces of its own.
//!
//! `interop [PART OF A NAME …]` runs the cases whose name has one of the parts in it, two at a time; each is this
//! program started again with `--case NAME`. Without `SEKISHO_REQUIRE_DAEMONS=1` it does nothing but say so, since
//! `cargo test` alone cannot fetch the daemons: `make test-lab` does.

mod bfd;
mod calico;
mod cases;
mod collectors;
mod features;
mod long_lived;
mod peer;
mod reannounce;
mod restart;
mod rig;
mod speaker;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use sekisho_tests::lab::{enter, now};

type Run = Box<dyn Fn(&sekisho_tests::lab::State) -> Result<()>>;

/// A case: what it shows, and the code.
pub(crate) struct Case {
    name: String,
    run: Run,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((flag, rest)) if flag == "--case" => one(rest.first().map_or("", String::as_str)),
        _ if std::env::var_os("SEKISHO_REQUIRE_DAEMONS").is_none() => {
            println!("interop: not run: needs real daemons; `make test-lab` fetches them and runs it");
            ExitCode::SUCCESS
        }
        _ => all(&words),
    }
}

fn one(name: &str) -> ExitCode {
    let outcome = enter().and_then(|state| {
        let case = cases::all()
            .into_iter()
            .find(|case| case.name == name)
            .context("no such case")?;
        let outcome = (case.run)(&state);
        if outcome.is_err() {
            eprintln!("{}", state.tails(25));
        }
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all(parts: &[String]) -> ExitCode {
    let names: Vec<String> = cases::all()
        .into_iter()
        .map(|case| case.name)
        .filter(|name| parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if names.is_empty() {
        println!("interop: no case has {} in its name", parts.join(" or "));
        return ExitCode::FAILURE;
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = now();
                    let outcome = again(name);
                    let seconds = start.elapsed().as_secs_f64();
                    match outcome {
                        Ok(()) => println!("ok    {name}  [{seconds:.1} s]"),
                        Err(said) => {
                            println!("FAIL  {name}  [{seconds:.1} s]\n{said:#}");
                            if let Ok(mut failed) = failed.lock() {
                                failed.push(name.clone());
                            }
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    for name in &failed {
        println!("failed: {name}");
    }
    println!(
        "interop: {} passed, {} failed",
        names.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn again(name: &str) -> Result<()> {
    let out = Command::new(std::env::current_exe()?)
        .args(["--case", name])
        .output()?;
    if out.status.success() {
        return Ok(());
    }
    anyhow::bail!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}
