//! Numbered steps with what each measured, and the line that ends them.

use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

use anyhow::Result;

use crate::lab::{State, now};

/// A walk through steps. A failed step is printed with the ends of the lab's logs, and the walk goes on.
#[derive(Debug)]
pub struct Walk {
    name: &'static str,
    state: State,
    start: Instant,
    passed: u32,
    failed: u32,
    table: Vec<(String, String)>,
}

impl Walk {
    /// Starts one; `name` stands in the last line.
    pub fn new(name: &'static str, state: &State) -> Self {
        Self {
            name,
            state: state.clone(),
            start: now(),
            passed: 0,
            failed: 0,
            table: Vec::new(),
        }
    }

    /// One step: `work` gives what it measured, in a few words.
    pub fn step(&mut self, title: &str, work: impl FnOnce(&mut Measured) -> Result<String>) -> bool {
        let number = self.passed + self.failed + 1;
        let start = now();
        if stdout().is_terminal() {
            print!("{number:>3}. {title} …\r");
            let _ = stdout().flush();
        }
        let mut measured = Measured::default();
        let result = work(&mut measured);
        let seconds = start.elapsed().as_secs_f64();
        self.table.extend(measured.0);
        match result {
            Ok(said) => {
                self.passed += 1;
                println!("{number:>3}. ok    {title}  [{seconds:.2} s]");
                for line in said.lines() {
                    println!("           {line}");
                }
                true
            }
            Err(error) => {
                self.failed += 1;
                println!("{number:>3}. FAIL  {title}  [{seconds:.2} s]");
                println!("           {error:#}");
                if self.failed == 1 {
                    println!("{}", self.state.tails(15));
                }
                false
            }
        }
    }

    /// Prints the table of what was measured since it was last printed.
    pub fn tell(&mut self) {
        if !self.table.is_empty() {
            println!("\nMeasured");
            let width = self
                .table
                .iter()
                .map(|(what, _)| what.chars().count())
                .max()
                .unwrap_or(0);
            for (what, value) in &self.table {
                println!("  {what:<width$}  {value}");
            }
        }
        self.table.clear();
    }

    /// Prints the rest of the table and the last line; gives whether all passed.
    pub fn finish(mut self) -> bool {
        self.tell();
        println!("\n{} s in all", self.start.elapsed().as_secs());
        println!("{}: {} passed, {} failed", self.name, self.passed, self.failed);
        self.failed == 0
    }

    /// Whether nothing has failed so far.
    pub fn good(&self) -> bool {
        self.failed == 0
    }
}

/// Rows for the table at the end.
#[derive(Debug, Default)]
pub struct Measured(Vec<(String, String)>);

impl Measured {
    /// Adds a row.
    pub fn note(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.0.push((what.into(), value.into()));
    }
}
