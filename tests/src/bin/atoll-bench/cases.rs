//! What there is to measure. A case's name says what, with which payload if that matters, and with which guest.

use crate::driver::Driver;
use crate::machine::Stopwatch;
use crate::{Setup, memory};
use anyhow::Result;
use std::time::Duration;

/// A thing to measure.
pub struct Case {
    pub name: &'static str,
    pub guest: Guest,
    work: Work,
}

/// Which program the processes run. Both have the same functions, described in their sources.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// `bench-wat`: nothing but the contract, so that what is measured is the host.
    Bare,
    /// `bench`: the same on the guest SDK.
    Rust,
}

enum Work {
    /// A function of the guest does something `n` times and reports. What it takes with `n` = 0 is subtracted: the
    /// spawn of the function itself, the making of a ring, the way of the report.
    Repeated {
        function: &'static str,
        n: u32,
        m: u32,
        scale: Scale,
    },
    /// A function of the guest does something once, of size `n`.
    Once { function: &'static str, n: u32 },
    /// Processes that wait for a message: what each takes to get there in memory that nobody has touched yet.
    SpawnToIdle,
    /// Processes that wait for a message: how many bytes each holds.
    Resident,
}

/// How the time for many times is told.
#[derive(Clone, Copy)]
enum Scale {
    Microseconds,
    NanosecondsPerHop,
    PerSecond,
}

/// One repetition.
pub struct Sample {
    /// In the case's unit.
    pub value: f64,
    /// The same from CPU time instead of the clock on the wall, if the case measures time.
    pub cpu_value: Option<f64>,
    /// Cores that other programs used meanwhile.
    pub others_cores: f64,
    /// Anything else worth telling.
    pub note: Option<String>,
}

/// Processes that are alive at once in the cases about idle ones.
pub const IDLE_PROCESSES: u32 = 20_000;

/// Counts are such that a repetition takes some tenths of a second: the kernel tells how busy the machine is in
/// hundredths.
pub const CASES: &[Case] = &[
    repeated(
        "spawn_exit_bare",
        Guest::Bare,
        "spawn-exit",
        100_000,
        0,
        Scale::Microseconds,
    ),
    repeated(
        "spawn_exit_rust",
        Guest::Rust,
        "spawn-exit",
        20_000,
        0,
        Scale::Microseconds,
    ),
    repeated(
        "spawn_batch_bare",
        Guest::Bare,
        "spawn-batch",
        100_000,
        0,
        Scale::PerSecond,
    ),
    repeated(
        "pingpong_16B_bare",
        Guest::Bare,
        "ping-pong",
        500_000,
        16,
        Scale::Microseconds,
    ),
    repeated(
        "pingpong_16B_rust",
        Guest::Rust,
        "ping-pong",
        500_000,
        16,
        Scale::Microseconds,
    ),
    repeated(
        "pingpong_1KiB_bare",
        Guest::Bare,
        "ping-pong",
        200_000,
        1 << 10,
        Scale::Microseconds,
    ),
    repeated(
        "pingpong_1KiB_rust",
        Guest::Rust,
        "ping-pong",
        200_000,
        1 << 10,
        Scale::Microseconds,
    ),
    // The bare guest has one page of memory, so its largest ball is smaller than 64 KiB.
    repeated(
        "pingpong_60KB_bare",
        Guest::Bare,
        "ping-pong",
        10_000,
        60_000,
        Scale::Microseconds,
    ),
    repeated(
        "pingpong_64KiB_rust",
        Guest::Rust,
        "ping-pong",
        10_000,
        64 << 10,
        Scale::Microseconds,
    ),
    repeated(
        "ring_1000_bare",
        Guest::Bare,
        "ring",
        1_000_000,
        1000,
        Scale::NanosecondsPerHop,
    ),
    repeated(
        "ring_1000_rust",
        Guest::Rust,
        "ring",
        1_000_000,
        1000,
        Scale::NanosecondsPerHop,
    ),
    case(
        "fib_35_bare",
        Guest::Bare,
        Work::Once {
            function: "fib",
            n: 35,
        },
    ),
    case("spawn_to_idle_bare", Guest::Bare, Work::SpawnToIdle),
    case("spawn_to_idle_rust", Guest::Rust, Work::SpawnToIdle),
    case("memory_live_bare", Guest::Bare, Work::Resident),
    case("memory_live_rust", Guest::Rust, Work::Resident),
];

const fn case(name: &'static str, guest: Guest, work: Work) -> Case {
    Case { name, guest, work }
}

const fn repeated(
    name: &'static str,
    guest: Guest,
    function: &'static str,
    n: u32,
    m: u32,
    scale: Scale,
) -> Case {
    case(
        name,
        guest,
        Work::Repeated {
            function,
            n,
            m,
            scale,
        },
    )
}

impl Case {
    /// The unit of its value.
    pub fn unit(&self) -> &'static str {
        match self.work {
            Work::Repeated { scale, .. } => match scale {
                Scale::Microseconds => "us",
                Scale::NanosecondsPerHop => "ns/hop",
                Scale::PerSecond => "1/s",
            },
            Work::Once { .. } => "ms",
            Work::SpawnToIdle => "us",
            Work::Resident => "B",
        }
    }

    /// Prepares the case; each call of the result is one repetition.
    pub fn start<'a>(
        &'a self,
        setup: &'a Setup,
    ) -> Result<Box<dyn FnMut() -> Result<Sample> + 'a>> {
        Ok(match self.work {
            Work::Repeated {
                function,
                n,
                m,
                scale,
            } => {
                let mut driver = Driver::start(setup, self.guest)?;
                Box::new(move || {
                    let empty = driver.run(function, 0, m)?;
                    let full = driver.run(function, n, m)?;
                    Ok(full.minus(&empty).sample(|time| scale.value(time, n)))
                })
            }
            Work::Once { function, n } => {
                let mut driver = Driver::start(setup, self.guest)?;
                Box::new(move || {
                    Ok(driver
                        .run(function, n, 0)?
                        .sample(|time| time.as_secs_f64() * 1e3))
                })
            }
            Work::SpawnToIdle => Box::new(move || {
                // A new system has a new mapping, in which no page is touched.
                let mut driver = Driver::start(setup, self.guest)?;
                let stopwatch = Stopwatch::start()?;
                driver.spawn_idle(IDLE_PROCESSES)?;
                let per_process =
                    |time: Duration| time.as_secs_f64() * 1e6 / f64::from(IDLE_PROCESSES);
                Ok(stopwatch.stop()?.sample(per_process))
            }),
            Work::Resident => Box::new(move || memory::measure_in_child(setup, self.name)),
        })
    }
}

impl Scale {
    fn value(self, time: Duration, n: u32) -> f64 {
        let (seconds, n) = (time.as_secs_f64(), f64::from(n));
        match self {
            Scale::Microseconds => seconds * 1e6 / n,
            Scale::NanosecondsPerHop => seconds * 1e9 / n,
            Scale::PerSecond => n / seconds,
        }
    }
}
