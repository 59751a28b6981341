//! One round, in a process of its own: attackers and canaries in one system. `atoll fuzz` starts it, so that an abort, a
//! signal or a hang of the host is a finding and not the end.
//!
//! The child prints a line whenever it gets on to something else, and the outcome as its last line. Whoever reads that knows
//! what it was at when it stopped.

use super::attackers::{calls, functions, scavenger};
use super::canaries::{self, Canaries, pid_bytes};
use super::dice::Dice;
use super::outcome::{Invariant, Outcome};
use super::round::Round;
use crate::Failure;
use atoll_rt::{
    Config, CrashReport, DirGrant, Event, ExitReason, Grants, Holdings, HostMailbox, Outgoing,
    Output, Overflow, Pid, Program, Rights, Selector, Spawn, System, TreeOptions,
};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The beginning of the line that holds the outcome.
pub const OUTCOME_MARK: &str = "outcome ";

/// The time between two acts where no canary sets the pace.
const PACE: Duration = Duration::from_millis(1);
/// How long the canaries are alone first.
const ALONE: Duration = Duration::from_millis(150);
/// The limits of each process.
const MEMORY_MAX: u64 = 32 << 20;
const MAILBOX_MAX: u64 = 1 << 20;
/// The program may hold this much more memory at the end than at its start: what allocators and caches keep.
const KEPT_MAX: u64 = 64 << 20;
/// Processes that the child itself keeps among the attackers.
const ATTACKERS_MAX: usize = 80;
/// A killed process must have ended by then.
const KILL: Duration = Duration::from_secs(20);
/// Loading a module may take this long.
const LOADING: Duration = Duration::from_secs(30);

/// Runs the round of a folder.
pub fn run(folder: &Path) -> Result<ExitCode, Failure> {
    let round = Round::read(folder)?;
    let seen = Seen::default();
    seen.watch_panics();
    let mut outcome = Outcome::default();
    outcome.ledger.rounds = 1;
    attack(&round, folder, &seen, &mut outcome)?;
    seen.report(&mut outcome);
    let text = serde_json::to_string(&outcome)
        .map_err(|error| Failure::new(format!("the outcome can't be written: {error}")))?;
    at(&format!("{OUTCOME_MARK}{text}"));
    Ok(ExitCode::SUCCESS)
}

/// Tells the parent what the child is at.
fn at(what: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{what}").and_then(|()| out.flush()).is_err() {
        // The parent is gone, and nobody wants the outcome.
        std::process::exit(1);
    }
}

fn attack(round: &Round, folder: &Path, seen: &Seen, outcome: &mut Outcome) -> Result<(), Failure> {
    at("starting");
    let bytes_before = resident_bytes();
    let system = System::new(config(round, folder, seen)?)
        .map_err(|error| Failure::new(format!("the system can't start: {error}")))?;
    let open = || {
        let opened = system.open_mailbox();
        opened.map_err(|error| Failure::new(format!("no mailbox: {error}")))
    };
    // The attackers know the second mailbox, and may fill it.
    let (mut host, mut counts) = (open()?, open()?);
    let program = system
        .load(canaries::NAME, canaries::PROGRAM)
        .map_err(|error| Failure::new(format!("the canaries can't be loaded: {error}")))?;
    let started = match round.tools {
        true => Ok(None),
        false => Canaries::start(&system, &program, &mut host).map(Some),
    };
    let canaries = match started {
        Ok(canaries) => canaries,
        Err(text) => {
            outcome.find(Invariant::Canary, text);
            return Ok(());
        }
    };
    let mut crew = Crew {
        system: system.clone(),
        dice: Dice::new(round.seed ^ 0x5eed),
        programs: Vec::new(),
        pids: Vec::new(),
        counts_to: counts.pid(),
        trees: round.trees,
    };
    let own_canary = own_canary(&system, round, folder)?;
    at("canaries alone");
    let alone = wait_beside(canaries.as_ref(), &mut host, ALONE, outcome, |_| {});
    outcome.ledger.wait_alone_us = micros(alone);
    crew.load(round, folder, outcome);
    at("attack");
    let time = Duration::from_millis(round.milliseconds);
    let mut processes_max = 0;
    let beside = wait_beside(canaries.as_ref(), &mut host, time, outcome, |outcome| {
        processes_max = processes_max.max(system.counters().processes);
        crew.act(outcome);
        read_counts(&mut counts, outcome);
    });
    outcome.ledger.wait_beside_us = micros(beside);
    check_latency(round, alone, beside, processes_max, outcome);
    at("ending canaries");
    if let Some(canaries) = &canaries {
        canaries.stop(&system, &mut host, outcome);
    }
    check_own_canary(&system, own_canary, outcome);
    at("killing attackers");
    crew.kill_all(outcome);
    read_counts(&mut counts, outcome);
    note_counters(&system, outcome);
    drop((host, counts, crew));
    at("shutting down");
    system.shutdown();
    check_holdings(&system, outcome);
    // The last that hold the engine.
    drop((system, program));
    check_kept(bytes_before, outcome);
    Ok(())
}

/// The system is gone: this process holds no more than before, or little more.
fn check_kept(bytes_before: u64, outcome: &mut Outcome) {
    atoll_rt::Allocator::trim();
    let kept = resident_bytes().saturating_sub(bytes_before);
    outcome.ledger.kept_bytes = kept;
    if kept > KEPT_MAX {
        let text = format!(
            "the program keeps {} MiB when its system is gone; its largest parts:\n{}",
            kept >> 20,
            largest_mappings()
        );
        outcome.find(Invariant::Leak, text);
    }
}

/// The mappings of this process that hold the most memory.
fn largest_mappings() -> String {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut mappings: Vec<(u64, &str)> = Vec::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            let kibibytes = size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            mappings.push((kibibytes, name));
        } else if line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            name = line;
        }
    }
    mappings.sort_unstable_by(|left, right| right.cmp(left));
    let lines = mappings.iter().take(8);
    let lines = lines.map(|(kibibytes, name)| format!("{kibibytes} KiB: {name}\n"));
    lines.collect()
}

/// The memory that this process holds now.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn config(round: &Round, folder: &Path, seen: &Seen) -> Result<Config, Failure> {
    let files = folder.join("files");
    std::fs::create_dir_all(&files)
        .map_err(|error| Failure::new(format!("{}: {error}", files.display())))?;
    let crashes = seen.clone();
    Ok(Config {
        schedulers: round.schedulers,
        reductions: round.reductions,
        max_processes: processes_max(round),
        max_memory: MEMORY_MAX,
        max_total_memory: 512 << 20,
        max_mailbox: MAILBOX_MAX,
        max_message: 256 << 10,
        max_ties: 10_000,
        hibernate_after: round.hibernate_after_ms.map(Duration::from_millis),
        poison: round.poison,
        grants: Grants {
            dirs: vec![DirGrant {
                host: files,
                guest: "/".into(),
                writable: true,
            }],
            args: vec!["attacker".into(), "argument".into()],
            env: vec![("NAME".into(), "value".into())],
            ..Grants::default()
        },
        allow_inspect: round.tools,
        allow_debug: round.tools,
        output: Output::new(Box::new(io::sink()), Box::new(seen.clone())),
        on_crash: Arc::new(move |report| crashes.note_crash(report)),
        ..Config::default()
    })
}

/// The fewer reductions a slice has, the longer a canary takes for its work beside so many processes.
fn processes_max(round: &Round) -> u32 {
    match round.reductions {
        4000.. => 600,
        500.. => 300,
        _ => 120,
    }
}

/// Pings a canary, if there are any, until the time is over, and acts between the pings. Returns the worst wait.
fn wait_beside(
    canaries: Option<&Canaries>,
    host: &mut HostMailbox,
    time: Duration,
    outcome: &mut Outcome,
    mut act: impl FnMut(&mut Outcome),
) -> Duration {
    let start = Instant::now();
    let mut worst = Duration::ZERO;
    while start.elapsed() < time {
        let Some(canaries) = canaries else {
            std::thread::sleep(PACE);
            act(outcome);
            continue;
        };
        let Some(wait) = canaries.ping(host) else {
            outcome.find(Invariant::Hang, "a canary does not answer any more");
            return worst;
        };
        worst = worst.max(wait);
        Canaries::note_failures(host, outcome);
        act(outcome);
    }
    worst
}

/// A canary waits at most for the slices of all that are ready to run, several times over, and for the machine.
fn check_latency(
    round: &Round,
    alone: Duration,
    beside: Duration,
    processes: u32,
    outcome: &mut Outcome,
) {
    // Ten nanoseconds for a reduction is far more than one takes.
    let slice = Duration::from_nanos(u64::from(round.reductions.max(400)) * 10);
    let bound = Duration::from_millis(400) + alone * 20 + slice * (4 * processes);
    if beside > bound {
        outcome.find(
            Invariant::Latency,
            format!(
                "a canary waited {} ms beside {processes} processes; alone {} ms; the bound is {} ms",
                beside.as_millis(),
                alone.as_millis(),
                bound.as_millis()
            ),
        );
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn read_counts(counts: &mut HostMailbox, outcome: &mut Outcome) {
    let all = functions::all();
    let zero = Some(Duration::ZERO);
    while let Some(event) = counts.receive_blocking(Selector::Any, zero) {
        let Event::Message(message) = event else {
            continue;
        };
        if message.tag != calls::COUNTS_TAG {
            continue;
        }
        let payload = message.payload.into_vec();
        for (place, zero, other) in calls::read_counts(&payload) {
            // An attacker's memory is in disorder, and so may its message be.
            if let Some(function) = all.get(place)
                && zero.max(other) < 1 << 24
            {
                let sums = outcome.ledger.calls.entry(function.label()).or_default();
                sums[0] += u64::from(zero);
                sums[1] += u64::from(other);
            }
        }
    }
}

fn note_counters(system: &System, outcome: &mut Outcome) {
    let counters = system.counters();
    let ledger = &mut outcome.ledger;
    ledger.processes = counters.spawned;
    ledger.crashes = counters.crashed;
    ledger.recycled = counters.recycled;
    ledger.packed = counters.hibernation.packed;
    ledger.woken = counters.hibernation.unpacked;
}

fn check_holdings(system: &System, outcome: &mut Outcome) {
    let trees = system.trees();
    if !trees.is_empty() {
        let text = format!("no process is left, and these trees are: {trees:?}");
        outcome.find(Invariant::Leak, text);
    }
    let holdings = system.holdings();
    if holdings != Holdings::default() {
        outcome.find(
            Invariant::Leak,
            format!("no process is left, and the system still holds {holdings:?}"),
        );
    }
}

/// Limits and rights for an attacker and all that it spawns.
fn tree(dice: &mut Dice) -> TreeOptions {
    let mut tree = TreeOptions::default();
    let limits = &mut tree.limits;
    limits.processes = Some(1 + dice.below(30) as u32);
    limits.tree_memory = Some(1 << (16 + dice.below(10)));
    limits.rate = *dice.pick(&[None, Some(50), Some(300)]);
    limits.reductions = *dice.pick(&[None, None, Some(1_000_000)]);
    limits.messages = *dice.pick(&[None, Some(0), Some(10)]);
    limits.overflow = *dice.pick(&[
        None,
        Some(Overflow::Reject),
        Some(Overflow::DropNewest),
        Some(Overflow::DropOldest),
    ]);
    limits.output = *dice.pick(&[None, Some(1000)]);
    limits.blocking = *dice.pick(&[None, Some(1)]);
    tree.own_names = dice.percent(30);
    if dice.percent(30) {
        tree.without = Rights::STRANGERS | Rights::FILES;
    }
    tree
}

/// Starts the user's own program among the canaries.
fn own_canary(
    system: &System,
    round: &Round,
    folder: &Path,
) -> Result<Option<(Pid, atoll_rt::Watch)>, Failure> {
    let Some(file) = &round.canary else {
        return Ok(None);
    };
    let path = folder.join(file);
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure::new(format!("{} can't be read: {error}", path.display())))?;
    let program = system
        .load("own-canary", &bytes)
        .map_err(|error| Failure::new(format!("{file}: {error}")).hint(error.hint()))?;
    let spawned = system.spawn_watched(Spawn::new(&program));
    spawned.map(Some).map_err(|error| {
        Failure::new(format!(
            "the program among the canaries can't be started: {error}"
        ))
    })
}

/// The user's own canary may have ended by itself, in its own good time. It must not have crashed.
fn check_own_canary(
    system: &System,
    canary: Option<(Pid, atoll_rt::Watch)>,
    outcome: &mut Outcome,
) {
    let Some((pid, watch)) = canary else { return };
    if system.is_alive(pid) {
        system.kill(pid);
        return;
    }
    let reason = watch.wait();
    if !matches!(reason, ExitReason::Normal | ExitReason::Shutdown) {
        outcome.find(Invariant::Canary, format!("own program: {reason}"));
    }
}

/// The attackers of a round, and what is done to them from outside.
struct Crew {
    system: System,
    dice: Dice,
    programs: Vec<Program>,
    pids: Vec<Pid>,
    counts_to: Pid,
    /// Attackers begin trees with limits.
    trees: bool,
}

impl Crew {
    /// Loads the attackers' programs. The loader may refuse each of them, but must not take long.
    fn load(&mut self, round: &Round, folder: &Path, outcome: &mut Outcome) {
        for (number, file) in round.attackers.iter().enumerate() {
            at(&format!("loading {file}"));
            let Ok(bytes) = std::fs::read(folder.join(file)) else {
                continue;
            };
            let kind = file.split('-').next().unwrap_or_default().to_owned();
            let start = Instant::now();
            let loaded = self.system.load(&format!("attacker{number}"), &bytes);
            if start.elapsed() > LOADING {
                let text = format!("loading {file} took {} s", start.elapsed().as_secs());
                outcome.find(Invariant::Loading, text);
            }
            let counts = outcome.ledger.modules.entry(kind).or_default();
            match loaded {
                Ok(program) => {
                    counts[0] += 1;
                    self.programs.push(program);
                }
                Err(_) => counts[1] += 1,
            }
        }
    }

    /// Does a few things that may happen to processes at any time.
    fn act(&mut self, outcome: &mut Outcome) {
        self.pids.retain(|pid| self.system.is_alive(*pid));
        if self.programs.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
            return;
        }
        for _ in 0..1 + self.dice.below(16) {
            if self.pids.is_empty() || self.dice.percent(50) {
                self.spawn();
                continue;
            }
            let pid = *self.dice.pick(&self.pids);
            match self.dice.below(10) {
                0..4 => {
                    self.system.kill(pid);
                    outcome.ledger.kills += 1;
                }
                4 => {
                    let reason = self.reason();
                    self.system.exit_process(pid, reason);
                }
                5 => {
                    let _ = self.system.register("name", pid);
                }
                6 => self.check_limits(pid, outcome),
                _ => self.send(pid, outcome),
            }
        }
    }

    fn spawn(&mut self) {
        let program = self.dice.pick(&self.programs);
        let functions = program.functions();
        let mut argument = pid_bytes(self.counts_to);
        if self.dice.percent(20) {
            argument.extend(vec![0xa7; self.dice.below(100_000) as usize]);
        }
        let mut spawn = Spawn::new(program).argument(argument);
        if self.trees {
            spawn = spawn.within(tree(&mut self.dice));
        }
        if self.dice.percent(30) && !functions.is_empty() {
            spawn = spawn.function(self.dice.pick(&functions));
        }
        // Many of one program in a row get one another's instances.
        for _ in 0..*self.dice.pick(&[1, 1, 1, 20]) {
            if self.pids.len() < ATTACKERS_MAX
                && let Ok(pid) = self.system.spawn(spawn.clone())
            {
                self.pids.push(pid);
            }
        }
    }

    /// No process holds more than it may.
    fn check_limits(&self, pid: Pid, outcome: &mut Outcome) {
        let Some(info) = self.system.info(pid) else {
            return;
        };
        // Where messages may be dropped, signals have as much room again.
        let mailbox_max = MAILBOX_MAX * if self.trees { 2 } else { 1 };
        if info.mailbox_bytes > mailbox_max || info.memory_bytes > MEMORY_MAX {
            let text = format!(
                "a process holds {} bytes of memory and {} bytes of mail; it may hold {MEMORY_MAX} and {mailbox_max}",
                info.memory_bytes, info.mailbox_bytes
            );
            outcome.find(Invariant::Memory, text);
        }
        for tree in self.system.trees() {
            for spent in [tree.memory, tree.processes] {
                if spent.limit.is_some_and(|limit| spent.used > limit) {
                    let text = format!("a tree holds more than it may: {spent:?}");
                    outcome.find(Invariant::Memory, text);
                }
            }
        }
    }

    fn send(&mut self, pid: Pid, outcome: &mut Outcome) {
        let length = *self.dice.pick(&[0, 1, 16, 17, 24, 25, 100, 5000, 100_000]);
        let bytes = vec![self.dice.any() as u8; length];
        let message = Outgoing::new(self.dice.below(3) as u32, &bytes);
        // The sender is a mailbox that is closed by the time anyone answers.
        if let Ok(sender) = self.system.open_mailbox() {
            sender.send(pid, message);
            outcome.ledger.messages += 1;
        }
    }

    fn reason(&mut self) -> ExitReason {
        match self.dice.below(4) {
            0 => ExitReason::Normal,
            1 => ExitReason::Shutdown,
            2 => ExitReason::Other(Arc::from(&b"reason"[..])),
            _ => ExitReason::Kill,
        }
    }

    /// Kills those that the child knows. They must end.
    fn kill_all(&mut self, outcome: &mut Outcome) {
        for pid in &self.pids {
            self.system.kill(*pid);
            outcome.ledger.kills += 1;
        }
        let start = Instant::now();
        while self.pids.iter().any(|pid| self.system.info(*pid).is_some()) {
            if start.elapsed() > KILL {
                outcome.find(Invariant::Kill, "a process that was killed does not end");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Everything that is seen from other threads.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    panics: Vec<String>,
    found: Vec<String>,
    /// The words of panics of canaries, and of mutants of theirs.
    said: Vec<String>,
    /// The functions whose calls have trapped, and how often.
    trapped: BTreeMap<String, u64>,
}

/// The standard error of the system's processes: what canaries say there is noted, and all else is dropped.
impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const SOURCES: &[u8] = b"canaries/src/";
        if bytes.windows(SOURCES.len()).any(|part| part == SOURCES) {
            let mut notes = self.notes();
            if notes.said.len() < NOTES_MAX {
                let text = String::from_utf8_lossy(bytes);
                notes.said.push(atoll_rt::printable(&text, 500));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Enough of each kind to understand it.
const NOTES_MAX: usize = 5;

impl Seen {
    /// Notes each panic of this process's.
    fn watch_panics(&self) {
        let seen = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let mut notes = seen.notes();
            if notes.panics.len() < NOTES_MAX {
                notes.panics.push(panic.to_string());
            }
            drop(notes);
            // A panic that can't unwind aborts: then this is all that is left of it.
            let _ = writeln!(io::stderr(), "{panic}");
        }));
    }

    fn note_crash(&self, report: &CrashReport) {
        let mut notes = self.notes();
        let frames = || report.backtrace.iter();
        if report.program != canaries::NAME {
            let prefix = |text: &str| text.find(scavenger::FOUND_PREFIX).is_some();
            if let Some(found) = frames().find(|frame| prefix(frame))
                && notes.found.len() < NOTES_MAX
            {
                notes.found.push(format!("{}: {found}", report.program));
            }
        }
        if let Some(call) = frames().next()
            && let Some(function) = call.strip_prefix(calls::CALL_PREFIX)
        {
            *notes.trapped.entry(function.to_owned()).or_default() += 1;
        }
    }

    fn report(&self, outcome: &mut Outcome) {
        let notes = std::mem::take(&mut *self.notes());
        let said = notes.said.join("\n");
        for finding in &mut outcome.findings {
            if finding.invariant == Invariant::Canary && !said.is_empty() {
                finding.text += &format!("\n{said}");
            }
        }
        for panic in notes.panics {
            outcome.find(Invariant::Panic, panic);
        }
        for found in notes.found {
            outcome.find(Invariant::Secret, found);
        }
        for (function, times) in notes.trapped {
            outcome.ledger.calls.entry(function).or_default()[2] += times;
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
