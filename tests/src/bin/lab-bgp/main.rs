//! `make bench-bgp`: time, CPU seconds and memory of BGP daemons with a million routes, one after another in one run, with one
//! injector for all. `bench/README.md` says how to read it.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts and lengths of a bench are small"
)]

mod injector;
mod kernel;
mod speakers;
mod withdrawal;

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sekisho_tests::lab::{Netns, State, cpu_seconds, enter, join, now, peak_memory, wait_for};

use injector::{Injector, Shape, network, updates, withdrawals};
use kernel::Kernel;
use speakers::{BOX, Kind, Speaker};

/// Longest wait for one step; GoBGP takes half a minute for a million routes.
const PATIENCE: Duration = Duration::from_secs(240);

/// What one step cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    cpu: f64,
    peak_mb: f64,
}

/// One row of the table: a step, with what it cost each daemon that does it.
struct Row {
    what: String,
    costs: Vec<(Kind, Cost)>,
}

struct Bench {
    state: State,
    the_box: Netns,
    peers: Netns,
    kinds: Vec<Kind>,
    cases: Option<Vec<String>>,
    routes: u32,
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    let bench = enter().and_then(|state| {
        Bench::new(&state).and_then(|bench| bench.run().inspect_err(|_| println!("{}", state.tails(10))))
    });
    match bench {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-bgp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Address of injector number `index`, all on one cable.
fn address(index: u32) -> Ipv4Addr {
    match index {
        0 => Ipv4Addr::new(10, 0, 0, 2),
        _ => Ipv4Addr::from_bits(0x0a00_0100 + index),
    }
}

impl Bench {
    fn new(state: &State) -> Result<Self> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let kinds = match text("DAEMONS") {
            None => Kind::ALL.to_vec(),
            Some(names) => names
                .split([' ', ','])
                .map(|name| {
                    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
                    found.with_context(|| format!("DAEMONS={names}: no daemon named {name}"))
                })
                .collect::<Result<_>>()?,
        };
        let cases = text("CASES").map(|names| names.split([' ', ',']).map(str::to_owned).collect());
        let routes = text("ROUTES").map_or(Ok(1_000_000), |text| text.parse())?;
        let (the_box, peers) = (Netns::create("box")?, Netns::create("peers")?);
        join(
            (&the_box, "eth0", &["10.0.0.10/16"]),
            (&peers, "eth0", &["10.0.0.2/16"]),
        )?;
        // Replacing a nexthop object under a million routes is one message to us and a million to listeners without it.
        the_box.sysctl("ipv4/nexthop_compat_mode", "0")?;
        Ok(Self {
            state: state.clone(),
            the_box,
            peers,
            kinds,
            cases,
            routes,
            rows: Vec::new(),
        })
    }

    fn run(mut self) -> Result<()> {
        println!(
            "{} cores; {} routes; seconds until the daemon's own counter (or the kernel) shows all, CPU seconds of its \
             processes, peak resident memory\n",
            std::thread::available_parallelism()?,
            self.routes
        );
        for kind in self.kinds.clone() {
            for (case, work) in [
                ("packed", Self::packed as fn(&mut Self, Kind) -> Result<()>),
                ("spread", Self::spread),
                ("peers", Self::many_peers),
                ("nodes", Self::nodes),
                ("kernel", Self::kernel),
                ("failover", Self::failover),
                ("withdrawal", Self::withdrawal),
            ] {
                if self
                    .cases
                    .as_ref()
                    .is_some_and(|wanted| !wanted.iter().any(|name| name == case))
                {
                    continue;
                }
                work(&mut self, kind).with_context(|| format!("{case} with {}", kind.name()))?;
            }
        }
        let wanted = self
            .cases
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|name| name == "kernel"));
        if wanted {
            self.floor()?;
        }
        self.report();
        Ok(())
    }

    /// A million routes from one peer, many with one path; then the peer goes.
    fn packed(&mut self, kind: Kind) -> Result<()> {
        let (speaker, mut injector) = self.one(kind, false)?;
        let octets = updates(Shape::Packed, 0, self.routes, address(0), 0);
        let all = u64::from(self.routes);
        self.step(
            kind,
            "1 peer, packed",
            &speaker,
            || injector.send(&octets),
            counts(all),
        )?;
        self.step(kind, "… the peer goes", &speaker, || injector.cease(), counts(0))?;
        speaker.end()
    }

    /// The same with a path for every five; then each is withdrawn.
    fn spread(&mut self, kind: Kind) -> Result<()> {
        let (speaker, mut injector) = self.one(kind, false)?;
        let octets = updates(Shape::Spread, 0, self.routes, address(0), 0);
        let all = u64::from(self.routes);
        self.step(
            kind,
            "1 peer, spread",
            &speaker,
            || injector.send(&octets),
            counts(all),
        )?;
        let octets = withdrawals(0, self.routes);
        self.step(
            kind,
            "… all withdrawn",
            &speaker,
            || injector.send(&octets),
            counts(0),
        )?;
        speaker.end()
    }

    /// A hundred peers with a hundredth each, all at once.
    fn many_peers(&mut self, kind: Kind) -> Result<()> {
        let addresses: Vec<_> = (0..100).map(|index| address(100 + index)).collect();
        self.give_addresses(&addresses)?;
        let speaker = Speaker::start(&self.state, &self.the_box, kind, &addresses, false)?;
        let share = self.routes / 100;
        let mut injectors = Vec::new();
        for (index, from) in addresses.iter().enumerate() {
            let injector = Injector::connect(&self.peers, *from, BOX)?;
            let octets = updates(Shape::Packed, index as u32 * share, share, *from, 0);
            injectors.push((injector, octets));
        }
        let all = u64::from(share * 100);
        let send = || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = injectors
                    .iter_mut()
                    .map(|(injector, octets)| scope.spawn(|| injector.send(octets)))
                    .collect();
                for thread in threads {
                    thread.join().ok().context("a thread panicked")??;
                }
                Ok(())
            })
        };
        self.step(kind, "100 peers", &speaker, send, counts(all))?;
        speaker.end()
    }

    /// 5,000 Calico nodes with four blocks each. BIRD 1.6 waits with `select`, which takes no more than 1,024 sockets, and FRR and GoBGP
    /// are not made for it: only Sekisho and BIRD 2.
    fn nodes(&mut self, kind: Kind) -> Result<()> {
        if !matches!(kind, Kind::Sekisho | Kind::Bird2) {
            return Ok(());
        }
        let addresses: Vec<_> = (0..5_000).map(|index| address(1_000 + index)).collect();
        self.give_addresses(&addresses)?;
        self.introduce(&addresses)?;
        let speaker = Speaker::start(&self.state, &self.the_box, kind, &addresses, false)?;
        let mut injectors = Vec::new();
        let send = || {
            for (index, from) in addresses.iter().enumerate() {
                let mut injector = Injector::connect(&self.peers, *from, BOX)?;
                injector.send(&updates(Shape::Packed, index as u32 * 4, 4, *from, 0))?;
                injectors.push(injector);
            }
            Ok(())
        };
        let what = "5,000 nodes, 20,000 blocks";
        let mut rows = std::mem::take(&mut self.rows);
        let result = self.measure(kind, &speaker, send, counts(20_000));
        for injector in &mut injectors {
            injector.tend()?;
        }
        note(&mut rows, what, kind, result?);
        self.rows = rows;
        speaker.end()
    }

    /// Until all are in the kernel; then until they are gone from it.
    fn kernel(&mut self, kind: Kind) -> Result<()> {
        if !matches!(kind, Kind::Sekisho | Kind::Bird2) {
            return Ok(());
        }
        let before = kernel::prefixes(&self.the_box)?;
        let (speaker, mut injector) = self.one(kind, true)?;
        let octets = updates(Shape::Packed, 0, self.routes, address(0), 0);
        let all = u64::from(self.routes);
        let the_box = self.the_box.clone();
        let samples = self.samples(2000);
        let sent = Rc::new(Cell::new(now()));
        // To count them costs the kernel a walk over all of them, beside whoever changes them: only when it looks as if there were
        // nothing to wait for any more, and a quarter of the time at most.
        let check = |wanted: u64| {
            let sent = Rc::clone(&sent);
            let (the_box, samples) = (the_box.clone(), samples.clone());
            let mut asked = Kernel::open(&the_box)?;
            let mut next = now();
            let mut looks_done = None;
            anyhow::Ok(move |_: &Speaker| {
                for sample in &samples {
                    let there = asked.way(*sample)?.is_some();
                    ensure!(there == (wanted > 0), "{sample} is there: {there}");
                }
                let took = *looks_done.get_or_insert_with(|| sent.get().elapsed());
                let began = now();
                ensure!(began >= next, "they are counted in a moment");
                let count = kernel::prefixes(&the_box)?.saturating_sub(before);
                next = now() + 3 * began.elapsed();
                ensure!(count == wanted, "{count} prefixes in the kernel");
                println!(
                    "{}: packets to all of {} addresses {} after {:.3} s",
                    kind.name(),
                    samples.len(),
                    if wanted > 0 { "have a way" } else { "have none" },
                    took.as_secs_f64()
                );
                Ok(())
            })
        };
        self.step(
            kind,
            "… into the kernel",
            &speaker,
            || {
                sent.set(now());
                injector.send(&octets)
            },
            check(all)?,
        )?;
        self.step(
            kind,
            "… out of it, the peer goes",
            &speaker,
            || {
                sent.set(now());
                injector.cease()
            },
            check(0)?,
        )?;
        speaker.end()
    }

    /// Two peers say the same; the better one dies, and its next hop with it.
    fn failover(&mut self, kind: Kind) -> Result<()> {
        if !matches!(kind, Kind::Sekisho | Kind::Bird2) {
            return Ok(());
        }
        let (better, other) = (address(0), address(1));
        self.give_addresses(&[other])?;
        let speaker = Speaker::start(&self.state, &self.the_box, kind, &[better, other], true)?;
        let mut injectors = Vec::new();
        for (prepend, from) in [better, other].into_iter().enumerate() {
            let mut injector = Injector::connect(&self.peers, from, BOX)?;
            injector.send(&updates(Shape::Packed, 0, self.routes, from, prepend))?;
            injector.keep_alive()?;
            injectors.push(injector);
        }
        let all = u64::from(self.routes);
        wait_for("all paths, and the kernel's routes", PATIENCE, || {
            let (held, installed) = (speaker.count()?, kernel::prefixes(&self.the_box)?);
            ensure!(
                held >= 2 * all && installed >= all,
                "{held} held, {installed} installed"
            );
            Ok(())
        })?;
        settle(speaker.pid())?;
        let mut asked = Kernel::open(&self.the_box)?;
        let samples = self.samples(10);
        let mut all_by = |via: Ipv4Addr| -> Result<bool> {
            for sample in &samples {
                if asked.way(*sample)? != Some(via) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        ensure!(all_by(better)?, "the better path is not in use");
        let cpu = cpu_seconds(speaker.pid())?;
        let start = now();
        injectors.swap_remove(0).cease()?;
        while !all_by(other)? {
            if start.elapsed() > PATIENCE {
                bail!("the other path is not taken");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let seconds = start.elapsed().as_secs_f64();
        settle(speaker.pid())?;
        let cost = Cost {
            seconds,
            cpu: cpu_seconds(speaker.pid())? - cpu,
            peak_mb: peak_memory(speaker.pid())? as f64 / 1e6,
        };
        note(&mut self.rows, "dead next hop under them", kind, cost);
        speaker.end()?;
        self.the_box.ip("route flush table main proto 94")?;
        self.the_box.ip("route flush table main proto bird")?;
        Ok(())
    }

    /// What the kernel alone takes, without any BGP.
    fn floor(&mut self) -> Result<()> {
        for (what, object) in [("nexthop object", true), ("gateway", false)] {
            let netns = Netns::create(&format!("floor{}", u8::from(object)))?;
            let other = Netns::create(&format!("other{}", u8::from(object)))?;
            join(
                (&netns, "eth0", &["10.0.0.10/24"]),
                (&other, "eth0", &["10.0.0.2/24"]),
            )?;
            let mut kernel = Kernel::open(&netns)?;
            let index = kernel::interface(&netns, "eth0")?;
            kernel.nexthop(7, address(0), index)?;
            let (start, cpu) = (now(), thread_cpu()?);
            kernel.routes(0, self.routes, if object { Ok(7) } else { Err(address(0)) })?;
            println!(
                "kernel alone, {what}: {:.2} s, {:.2} CPU s",
                start.elapsed().as_secs_f64(),
                thread_cpu()? - cpu
            );
            if object {
                let start = now();
                kernel.nexthop_gone(7)?;
                println!(
                    "kernel alone, the object and all that leads there goes: {:.2} s",
                    start.elapsed().as_secs_f64()
                );
            }
        }
        Ok(())
    }

    /// So many of the networks and one more, the first and the last among them.
    fn samples(&self, count: u64) -> Vec<Ipv4Addr> {
        (0..=count)
            .map(|part| network((part * u64::from(self.routes - 1) / count) as u32))
            .collect()
    }

    fn one(&self, kind: Kind, install: bool) -> Result<(Speaker, Injector)> {
        let speaker = Speaker::start(&self.state, &self.the_box, kind, &[address(0)], install)?;
        let injector = Injector::connect(&self.peers, address(0), BOX)?;
        Ok((speaker, injector))
    }

    fn give_addresses(&self, addresses: &[Ipv4Addr]) -> Result<()> {
        let mut batch = String::new();
        for address in addresses {
            batch.push_str(&format!("addr replace {address}/16 dev eth0\n"));
        }
        let file = self.state.file("addresses");
        std::fs::write(&file, batch)?;
        self.peers.ip(&format!("-batch {}", file.display())).map(drop)
    }

    /// Tells the box where these addresses are: the kernel keeps no more than a thousand neighbours that it has found itself.
    fn introduce(&self, addresses: &[Ipv4Addr]) -> Result<()> {
        let link = self.peers.ip("-o link show eth0")?;
        let mut words = link.split_whitespace().skip_while(|word| *word != "link/ether");
        let hardware = words.nth(1).context("eth0 has no hardware address")?;
        let mut batch = String::new();
        for address in addresses {
            batch.push_str(&format!(
                "neigh replace {address} lladdr {hardware} dev eth0 nud permanent\n"
            ));
        }
        let file = self.state.file("neighbours");
        std::fs::write(&file, batch)?;
        self.the_box.ip(&format!("-batch {}", file.display())).map(drop)
    }

    fn step(
        &mut self,
        kind: Kind,
        what: &str,
        speaker: &Speaker,
        send: impl FnOnce() -> Result<()>,
        done: impl FnMut(&Speaker) -> Result<()>,
    ) -> Result<()> {
        let cost = self.measure(kind, speaker, send, done)?;
        note(&mut self.rows, what, kind, cost);
        Ok(())
    }

    /// What `send` costs the daemon until it is `done`, and until it has come to rest.
    fn measure(
        &self,
        kind: Kind,
        speaker: &Speaker,
        send: impl FnOnce() -> Result<()>,
        mut done: impl FnMut(&Speaker) -> Result<()>,
    ) -> Result<Cost> {
        settle(speaker.pid())?;
        let before = cpu_seconds(speaker.pid())?;
        let start = now();
        send()?;
        wait_for(&format!("{} to have all", kind.name()), PATIENCE, || {
            done(speaker)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        settle(speaker.pid())?;
        Ok(Cost {
            seconds,
            cpu: cpu_seconds(speaker.pid())? - before,
            peak_mb: peak_memory(speaker.pid())? as f64 / 1e6,
        })
    }

    fn report(&self) {
        print!("\n{:<30}", "");
        for kind in &self.kinds {
            print!("{:>26}", kind.name());
        }
        println!("   sekisho : bird2 (s, CPU, MB)");
        for row in &self.rows {
            print!("{:<30}", row.what);
            let of = |kind: Kind| {
                row.costs
                    .iter()
                    .find(|(one, _)| *one == kind)
                    .map(|(_, cost)| *cost)
            };
            for kind in &self.kinds {
                let text = of(*kind).map_or_else(
                    || "-".to_owned(),
                    |cost| format!("{:.3} s {:.2} CPU {:.0} MB", cost.seconds, cost.cpu, cost.peak_mb),
                );
                print!("{text:>26}");
            }
            if let (Some(ours), Some(theirs)) = (of(Kind::Sekisho), of(Kind::Bird2)) {
                print!(
                    "   {:.2} {:.2} {:.2}",
                    ours.seconds / theirs.seconds.max(0.001),
                    ours.cpu / theirs.cpu.max(0.01),
                    ours.peak_mb / theirs.peak_mb
                );
            }
            println!();
        }
    }
}

/// The daemon's own counter shows so many.
fn counts(wanted: u64) -> impl FnMut(&Speaker) -> Result<()> {
    move |speaker| {
        let count = speaker.count()?;
        ensure!(count == wanted, "its counter shows {count}");
        Ok(())
    }
}

fn note(rows: &mut Vec<Row>, what: &str, kind: Kind, cost: Cost) {
    println!(
        "{:<8} {what}: {:.3} s, {:.2} CPU s, {:.0} MB",
        kind.name(),
        cost.seconds,
        cost.cpu,
        cost.peak_mb
    );
    match rows.iter_mut().find(|row| row.what == what) {
        Some(row) => row.costs.push((kind, cost)),
        None => rows.push(Row {
            what: what.to_owned(),
            costs: vec![(kind, cost)],
        }),
    }
}

/// CPU seconds of this thread.
fn thread_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: u64 = text
        .split_whitespace()
        .next()
        .context("an empty schedstat")?
        .parse()?;
    Ok(nanoseconds as f64 / 1e9)
}

/// Waits until a process takes no more than a tick in a fifth of a second, at most for a minute.
fn settle(pid: u32) -> Result<()> {
    let mut before = cpu_seconds(pid)?;
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(200));
        let after = cpu_seconds(pid)?;
        if after - before < 0.015 {
            return Ok(());
        }
        before = after;
    }
    Ok(())
}
