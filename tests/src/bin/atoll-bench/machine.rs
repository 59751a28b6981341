//! Measurements by the kernel: CPU time, the machine's load, resident memory.

use crate::measurement::Sample;
use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::{Duration, Instant};

/// On every architecture of Linux today, the kernel counts busy time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures time by three clocks.
pub struct Stopwatch {
    start: Instant,
    cpu: Duration,
    busy_seconds: f64,
}

/// The times that a stopwatch has measured.
pub struct Lap {
    pub wall: Duration,
    /// The CPU time of all threads of this process.
    cpu: Duration,
    /// The cores that other programs used.
    others_cores: f64,
}

impl Stopwatch {
    pub fn start() -> Result<Stopwatch> {
        // The most important clock is started last and stopped first.
        let busy_seconds = busy_seconds()?;
        let cpu = cpu_time();
        Ok(Stopwatch {
            start: Instant::now(),
            cpu,
            busy_seconds,
        })
    }

    pub fn stop(&self) -> Result<Lap> {
        let wall = self.start.elapsed();
        let cpu = cpu_time().saturating_sub(self.cpu);
        let others_seconds = busy_seconds()? - self.busy_seconds - cpu.as_secs_f64();
        let others_cores = others_seconds.max(0.0) / wall.as_secs_f64();
        Ok(Lap {
            wall,
            cpu,
            others_cores,
        })
    }
}

impl Lap {
    /// The sample of a repetition that took this lap.
    pub fn sample(&self, values: Vec<f64>) -> Sample {
        Sample {
            values,
            own_cores: Some(self.cpu.as_secs_f64() / self.wall.as_secs_f64()),
            others_cores: self.others_cores,
            note: None,
        }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // A process's CPU time is never negative.
    Duration::try_from(time).unwrap_or_default()
}

/// The time that all cores of the machine have been busy since it started, whichever program they ran. Time that another virtual
/// machine on the same hardware took away counts, too.
fn busy_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let ticks = first.split_whitespace().skip(1).map(str::parse::<u64>);
    let ticks = ticks
        .collect::<Result<Vec<_>, _>>()
        .context("parsing /proc/stat")?;
    // The fields are: user nice system idle iowait irq softirq steal. The fields after them are contained in user and nice.
    let busy = ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(column, _)| !matches!(column, 3 | 4));
    Ok(busy.map(|(_, ticks)| *ticks as f64).sum::<f64>() / TICKS_PER_SECOND)
}

/// The memory of the machine that this process holds.
#[derive(Clone, Copy)]
pub struct Resident {
    pub pages_bytes: u64,
    pub page_tables_bytes: u64,
}

impl Resident {
    pub fn bytes(self) -> u64 {
        self.pages_bytes + self.page_tables_bytes
    }
}

pub fn resident() -> Result<Resident> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        let kibibytes: u64 = number
            .with_context(|| format!("there is no {name}"))?
            .parse()?;
        Ok(kibibytes << 10)
    };
    Ok(Resident {
        pages_bytes: field("VmRSS:")?,
        page_tables_bytes: field("VmPTE:")?,
    })
}
