//! The appliance: joins the rooms, runs the control task, answers the command line.
//!
//! Job: read the box's file, start every room, fold what they say into one state, publish what follows from it.
//!
//! Data in: the file, signals, events of the rooms. Data out: snapshots, plans, the admin API, exit codes.

mod admin;
mod appliance;
mod cli;
mod control;
mod memory;
mod own_addresses;
mod reload;
mod sticky_key;
mod view;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
