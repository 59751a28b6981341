//! The canaries of a round: starts them, asks how they are, and ends them.

use super::outcome::{Invariant, Outcome};
use atoll_rt::{Event, HostMailbox, Outgoing, Pid, Program, Selector, Spawn, System};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The program of the canaries, as `cargo xtask canaries` has built it from `guests/rust/canaries`.
pub const PROGRAM: &[u8] = include_bytes!("canaries.wasm");
/// Its name in a round's system.
pub const NAME: &str = "canaries";

// The tags are those of the canaries' module `watch`.
const READY: u32 = 0x7001;
const FAILED: u32 = 0x7002;
const STOP: u32 = 0x7003;
const DONE: u32 = 0x7004;
const PING: u32 = 0x7fff;

/// A canary that does not answer for so long hangs.
const HANG: Duration = Duration::from_secs(30);
/// A canary that takes longer is asked what it is doing.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the canaries may take to end. Each of them waits for its last answer.
const END: Duration = Duration::from_secs(100);

/// The canaries of a system.
pub struct Canaries {
    pub root: Pid,
    echo: Pid,
}

impl Canaries {
    /// Starts them. Returns an error text if they don't start.
    pub fn start(
        system: &System,
        program: &Program,
        host: &mut HostMailbox,
    ) -> Result<Canaries, String> {
        let spawn = Spawn::new(program).argument(pid_bytes(host.pid()));
        let root = system.spawn(spawn).map_err(|error| error.to_string())?;
        let ready = tagged(host, READY, HANG).ok_or("the canaries do not start")?;
        let echo = read_pid(&ready).ok_or("the canaries start in another way than expected")?;
        Ok(Canaries { root, echo })
    }

    /// Sends a message to a canary and waits for the answer. Returns none if none comes.
    pub fn ping(&self, host: &mut HostMailbox) -> Option<Duration> {
        let sent = Instant::now();
        host.send(self.echo, Outgoing::new(PING, &[]));
        tagged(host, PING, HANG)?;
        Some(sent.elapsed())
    }

    /// Notes each canary that has reported a failure.
    pub fn note_failures(host: &mut HostMailbox, outcome: &mut Outcome) {
        while let Some(failure) = tagged(host, FAILED, Duration::ZERO) {
            let text = String::from_utf8_lossy(&failure).into_owned();
            outcome.find(Invariant::Canary, text);
        }
    }

    /// Ends the canaries, and notes what they have done.
    pub fn stop(&self, system: &System, host: &mut HostMailbox, outcome: &mut Outcome) {
        host.send(self.root, Outgoing::new(STOP, &[]));
        let done = tagged(host, DONE, PATIENCE).or_else(|| {
            let text = format!("canaries do not end:\n{}", states(system));
            outcome.find(Invariant::Canary, text);
            tagged(host, DONE, END)
        });
        Canaries::note_failures(host, outcome);
        let Some(done) = done else {
            return outcome.find(Invariant::Canary, "the canaries do not end at all");
        };
        for line in String::from_utf8_lossy(&done).lines() {
            let steps = line.split('=').next_back();
            let steps: u64 = steps.and_then(|steps| steps.parse().ok()).unwrap_or(0);
            outcome.ledger.canary_steps += steps;
        }
    }
}

/// The states of the canaries: a line for each.
fn states(system: &System) -> String {
    let mut text = String::new();
    let infos = system.processes().into_iter();
    for info in infos.filter_map(|pid| system.info(pid)) {
        if info.program == NAME {
            let _ = writeln!(
                text,
                "{} {:?}, {} events in its mailbox, {} links, in {}",
                info.pid,
                info.status,
                info.mailbox_events,
                info.links.len(),
                info.current_function
            );
        }
    }
    let counters = system.counters();
    let _ = writeln!(
        text,
        "{} processes, {} timers",
        counters.processes, counters.timers
    );
    text
}

/// Takes the next message with this tag.
fn tagged(host: &mut HostMailbox, tag: u32, timeout: Duration) -> Option<Vec<u8>> {
    match host.receive_blocking(Selector::Tag(tag), Some(timeout))? {
        Event::Message(message) => Some(message.payload.into_vec()),
        _ => None,
    }
}

/// A pid in the bytes in which canaries and attackers take it as their argument.
pub fn pid_bytes(pid: Pid) -> Vec<u8> {
    [pid.node.to_le_bytes(), pid.id.to_le_bytes()].concat()
}

fn read_pid(bytes: &[u8]) -> Option<Pid> {
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    Some(Pid {
        node: number(bytes.get(..8)?)?,
        id: number(bytes.get(8..16)?)?,
    })
}
