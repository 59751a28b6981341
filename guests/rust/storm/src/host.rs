//! The host's counters, and its memory.

use std::error::Error;
use std::time::Duration;

use atoll_guest::inspect::{self, SystemCounters};
use atoll_guest::{self_pid, time, yield_now};
use host_status::HostStatus;

/// By this time a process that has sent its last signal has left the table.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until no more processes are left than at the base; no signal tells of that. Then all other counters have to have
/// their old values, and this process must have no ties.
pub fn check_quiet(
    base: &SystemCounters,
    spawned: u64,
    crashes: (u64, u64),
) -> Result<SystemCounters, String> {
    let start_ns = time::now_ns();
    // The host counts the messages that this process has received when its turn ends, so at least one turn has to end.
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
    /// With fewer rounds than this, the report does not judge growth.
    const ROUNDS_MIN: usize = 30;
    /// An increase by up to this much and a twentieth is not growth. The largest number of processes at once differs from
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

    /// Compares the last third of the rounds with the second third, and reports the result. In the first third memory may
    /// grow, until slots, tables and the allocator have reached their largest size.
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

    /// The maximum of the second third, and the maximum of the last.
    fn thirds(samples: &[u64]) -> (u64, u64) {
        let most = |samples: &[u64]| samples.iter().copied().max().unwrap_or(0);
        let (second, last) = (samples.len() / 3, samples.len() * 2 / 3);
        (most(&samples[second..last]), most(&samples[last..]))
    }
}
