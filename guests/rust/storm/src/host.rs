//! What the host says: its counters, and its memory.

use std::error::Error;
use std::time::Duration;

use atoll_guest::inspect::{self, SystemCounters};
use atoll_guest::{self_pid, time, yield_now};
use host_status::HostStatus;

/// By then a process that has told everybody of its end is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until as few processes are left as there were at the base; nobody tells of that. Then everything else has to be
/// as it was, and this process to be tied to nobody.
pub fn check_quiet(
    base: &SystemCounters,
    spawned: u64,
    crashes: (u64, u64),
) -> Result<SystemCounters, String> {
    let start_ns = time::now_ns();
    // What this process has received is counted when its turn ends: at least one has to.
    yield_now();
    let mut now = inspect::counters();
    while now.processes != base.processes {
        if time::now_ns() - start_ns > PATIENCE.as_nanos() as u64 {
            return Err(format!(
                "expected {} processes when all were told of, came: {}",
                base.processes, now.processes
            ));
        }
        yield_now();
        now = inspect::counters();
    }
    let crashed = now.crashed - base.crashed;
    if crashed < crashes.0 || crashed > crashes.1 {
        return Err(format!(
            "expected {} to {} crashes to be counted, came: {crashed}",
            crashes.0, crashes.1
        ));
    }
    let own = inspect::info(self_pid()).ok_or("expected to be alive")?;
    for (what, expected, came) in [
        ("processes spawned", spawned, now.spawned - base.spawned),
        ("names", base.names, now.names),
        ("groups", base.groups, now.groups),
        ("timers", base.timers, now.timers),
        ("links", 0, own.links.len() as u64),
        ("monitors", 0, own.monitors.len() as u64),
        (
            "processes that monitor this one",
            0,
            own.monitored_by.len() as u64,
        ),
        ("timers of this process", 0, own.timers),
        ("events in the mailbox", 0, own.mailbox_events),
        ("bytes in the mailbox", 0, own.mailbox_bytes),
    ] {
        if came != expected {
            return Err(format!(
                "expected {expected} {what} after the round, came: {came}"
            ));
        }
    }
    Ok(now)
}

/// Memory in bytes after each round: the host's, and that of this process.
#[derive(Default)]
pub struct Memory {
    resident: Vec<u64>,
    own: Vec<u64>,
}

impl Memory {
    /// With fewer rounds than this, nothing is said of growth.
    const ROUNDS_MIN: usize = 30;
    /// How much more than before is not growth: this, and a twentieth. How many processes are there at once differs from
    /// round to round.
    const SLACK_BYTES: u64 = 8 << 20;

    /// Takes a sample; returns the host's resident bytes.
    pub fn sample(&mut self) -> Result<u64, Box<dyn Error>> {
        let resident = HostStatus::read()?.bytes("VmRSS")?;
        self.resident.push(resident);
        let own = inspect::info(self_pid()).ok_or("expected to be alive")?;
        self.own.push(own.memory_bytes);
        Ok(resident)
    }

    /// Compares the last third of the rounds with the one before it; says what it found. In the first third memory may
    /// grow: until slots, tables and the allocator have seen their worst.
    pub fn compare(&self) -> Result<String, String> {
        let resident = Self::thirds(&self.resident);
        let own = Self::thirds(&self.own);
        let text = format!(
            "resident {} MiB at most in the second third, {} MiB in the last; this process {} KiB, {} KiB",
            resident.0 >> 20,
            resident.1 >> 20,
            own.0 >> 10,
            own.1 >> 10
        );
        let grows = |(before, after): (u64, u64)| after > before + before / 20 + Self::SLACK_BYTES;
        if self.resident.len() >= Self::ROUNDS_MIN && (grows(resident) || grows(own)) {
            return Err(format!("expected memory not to grow, came: {text}"));
        }
        Ok(text)
    }

    /// The most in the second third, and the most in the last.
    fn thirds(samples: &[u64]) -> (u64, u64) {
        let most = |samples: &[u64]| samples.iter().copied().max().unwrap_or(0);
        let (second, last) = (samples.len() / 3, samples.len() * 2 / 3);
        (most(&samples[second..last]), most(&samples[last..]))
    }
}
