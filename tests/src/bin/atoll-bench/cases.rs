//! The table of cases to measure.
//!
//! A case with a counterpart among the Erlang benchmarks has the counterpart's name and unit, with the guest after the name:
//! `fair_busy4_s2_p99` is Erlang's figure and `fair_busy4_s2_p99_rust` is ours. `_s2` stands for two schedulers. Figures without
//! a counterpart are named the same way.

use crate::numbers::{Pick, Unit};

/// The number of live processes in the cases about idle ones.
pub const IDLE_PROCESSES: u32 = 20_000;

/// A measurement, which yields one figure or several.
pub struct Case {
    pub figures: &'static [Figure],
    /// The case is measured once with each of these numbers of scheduler threads, which are part of the names. If the list is
    /// empty, schedulers don't matter: the case is measured with one, and the names don't mention it.
    pub schedulers: &'static [usize],
    /// The case is measured with each of these.
    pub guests: &'static [Guest],
    pub work: Work,
}

/// One number that a case yields. Its name is `NAME[_sSCHEDULERS][PART]_GUEST`.
pub struct Figure {
    pub name: &'static str,
    pub part: &'static str,
    pub unit: Unit,
    /// The number of a report to use.
    pub pick: Pick,
}

/// The program that the processes run. Both do the same; their sources describe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Guest {
    /// `bench-wat`: it uses nothing but the contract, so that the host is measured.
    Bare,
    /// `bench`: it uses the guest SDK.
    Rust,
}

#[derive(Clone, Copy)]
pub enum Work {
    /// A function of the guest that reports how long its work took.
    Timed {
        function: &'static str,
        n: u32,
        m: u32,
    },
    /// Processes that wait for a message: the time that each takes to start to wait, in memory that is still untouched.
    SpawnToIdle,
    /// Processes that wait for a message: the bytes that each holds.
    Resident,
    /// A million processes that hibernate whenever they wait: the memory that they take, and the time to wake each. Measured
    /// once, because it takes a minute.
    Million,
    /// The program `atoll` from start to end. It runs `hello`, whose compiled code is in the cache on disk.
    StartUp,
}

impl Guest {
    pub fn suffix(self) -> &'static str {
        match self {
            Guest::Bare => "_bare",
            Guest::Rust => "_rust",
        }
    }
}

const BARE: &[Guest] = &[Guest::Bare];
const RUST: &[Guest] = &[Guest::Rust];
const BOTH: &[Guest] = &[Guest::Bare, Guest::Rust];

const MICROSECONDS_EACH_PROCESS: Unit = Unit::MicrosecondsEach("us/proc");
const MICROSECONDS_EACH_ROUND_TRIP: Unit = Unit::MicrosecondsEach("us/rt");
const MICROSECONDS_EACH_OPERATION: Unit = Unit::MicrosecondsEach("us/op");
const PROCESSES_PER_SECOND: Unit = Unit::PerSecond("procs/s");

/// The counts are those of the Erlang programs. A repetition takes some tenths of a second, because the kernel counts the
/// machine's load in hundredths.
pub const CASES: &[Case] = &[
    Case {
        figures: &[whole("spawn_exit_seq", MICROSECONDS_EACH_PROCESS)],
        schedulers: &[1, 2],
        guests: BOTH,
        work: timed("spawn-exit", 100_000, 0),
    },
    Case {
        figures: &[whole("spawn_exit_batch", PROCESSES_PER_SECOND)],
        schedulers: &[1, 2],
        guests: BOTH,
        work: timed("spawn-batch", 300_000, 0),
    },
    Case {
        figures: &[whole("spawn_monitor_seq", PROCESSES_PER_SECOND)],
        schedulers: &[1, 2],
        guests: BOTH,
        work: timed("spawn-monitor-seq", 100_000, 0),
    },
    Case {
        figures: &[whole("spawn_monitor_batch", PROCESSES_PER_SECOND)],
        schedulers: &[1, 2],
        guests: BOTH,
        work: timed("spawn-monitor-batch", 100_000, 0),
    },
    Case {
        figures: &[whole("link_cascade_10000", Unit::Milliseconds)],
        schedulers: &[1, 2],
        guests: RUST,
        work: timed("link-cascade", 10_000, 0),
    },
    Case {
        figures: &[whole("pingpong_ref_16B", MICROSECONDS_EACH_ROUND_TRIP)],
        schedulers: &[1],
        guests: BOTH,
        work: timed("ping-pong", 500_000, 16),
    },
    // Atoll copies messages of every size. Erlang copies only small binaries, unless it is asked to.
    Case {
        figures: &[whole("pingpong_copy_1KiB", MICROSECONDS_EACH_ROUND_TRIP)],
        schedulers: &[1],
        guests: BOTH,
        work: timed("ping-pong", 200_000, 1 << 10),
    },
    // The bare guest has one page of memory, so its largest ball is smaller than 64 KiB.
    Case {
        figures: &[whole("pingpong_copy_60KB", MICROSECONDS_EACH_ROUND_TRIP)],
        schedulers: &[1],
        guests: BARE,
        work: timed("ping-pong", 10_000, 60_000),
    },
    Case {
        figures: &[whole("pingpong_copy_64KiB", MICROSECONDS_EACH_ROUND_TRIP)],
        schedulers: &[1],
        guests: RUST,
        work: timed("ping-pong", 10_000, 64 << 10),
    },
    Case {
        figures: &[whole("pingpong_copy_1MiB", MICROSECONDS_EACH_ROUND_TRIP)],
        schedulers: &[1],
        guests: RUST,
        work: timed("ping-pong", 1000, 1 << 20),
    },
    // The schedulers decide where the two processes run. Erlang's version binds them to different schedulers.
    Case {
        figures: &[whole("pingpong_two_16B", MICROSECONDS_EACH_ROUND_TRIP)],
        schedulers: &[2],
        guests: BOTH,
        work: timed("ping-pong", 500_000, 16),
    },
    Case {
        figures: &[whole("ring_1000", Unit::NanosecondsEach("ns/hop"))],
        schedulers: &[1],
        guests: BOTH,
        work: timed("ring", 1_000_000, 1000),
    },
    Case {
        figures: &[whole("ring_100000", Unit::NanosecondsEach("ns/hop"))],
        schedulers: &[1],
        guests: BOTH,
        work: timed("ring", 1_000_000, 100_000),
    },
    Case {
        figures: &[whole("fanin_100x100000", Unit::PerSecond("msgs/s"))],
        schedulers: &[1, 2],
        guests: RUST,
        work: timed("fan-in", 10_000_000, 100),
    },
    Case {
        figures: &[whole("pairs_100", Unit::Milliseconds)],
        schedulers: &[1, 2],
        guests: RUST,
        work: timed("pairs", 20_000, 100),
    },
    Case {
        figures: &[whole("selrecv_none_0", MICROSECONDS_EACH_OPERATION)],
        schedulers: &[1],
        guests: BOTH,
        work: timed("selrecv-value", 100_000, 0),
    },
    Case {
        figures: &[whole("selrecv_scan_10000", MICROSECONDS_EACH_OPERATION)],
        schedulers: &[1, 2],
        guests: BOTH,
        work: timed("selrecv-value", 1000, 10_000),
    },
    Case {
        figures: &[whole("selrecv_ref_10000", MICROSECONDS_EACH_OPERATION)],
        schedulers: &[1],
        guests: BOTH,
        work: timed("selrecv-reference", 100_000, 10_000),
    },
    Case {
        figures: &[whole("request_reply", Unit::PerSecond("calls/s"))],
        schedulers: &[1, 2],
        guests: RUST,
        work: timed("request-reply", 200_000, 0),
    },
    Case {
        figures: &[
            whole("timer_arm_100000", Unit::NanosecondsEach("ns/timer")),
            sampled("timer_late_100000", "_p50", MICROSECONDS, 50.0),
            sampled("timer_late_100000", "_p99", MICROSECONDS, 99.0),
            sampled("timer_late_100000", "_max", MICROSECONDS, 100.0),
        ],
        schedulers: &[1, 2],
        guests: RUST,
        work: timed("timers", 100_000, 0),
    },
    Case {
        figures: &[
            sampled("receive_after_1ms", "_p50", MICROSECONDS, 50.0),
            sampled("receive_after_1ms", "_p99", MICROSECONDS, 99.0),
            sampled("receive_after_1ms", "_max", MICROSECONDS, 100.0),
        ],
        schedulers: &[1, 2],
        guests: RUST,
        work: timed("receive-after", 500, 1),
    },
    Case {
        figures: &FAIR_BUSY_4,
        schedulers: &[2],
        guests: RUST,
        work: timed("fairness", 4, 2000),
    },
    Case {
        figures: &FAIR_BUSY_1000,
        schedulers: &[2],
        guests: RUST,
        work: timed("fairness", 1000, 3000),
    },
    Case {
        figures: &[whole("cpu_fib_35", Unit::Milliseconds)],
        schedulers: &[],
        guests: BARE,
        work: timed("fib", 35, 0),
    },
    Case {
        figures: &[whole("cpu_sieve_5000000", Unit::Milliseconds)],
        schedulers: &[],
        guests: RUST,
        work: timed("sieve", 5_000_000, 348_513),
    },
    Case {
        figures: &[whole("cpu_nbody_200000", Unit::Milliseconds)],
        schedulers: &[],
        guests: RUST,
        work: timed("nbody", 200_000, 0),
    },
    Case {
        figures: &[whole("start_up_hello", Unit::Milliseconds)],
        schedulers: &[],
        guests: RUST,
        work: Work::StartUp,
    },
    Case {
        figures: &[whole("spawn_to_idle", MICROSECONDS_EACH_PROCESS)],
        schedulers: &[],
        guests: BOTH,
        work: Work::SpawnToIdle,
    },
    Case {
        figures: &[whole("memory_live", Unit::Bytes)],
        schedulers: &[],
        guests: BOTH,
        work: Work::Resident,
    },
    Case {
        figures: &[
            whole("million_asleep", Unit::Bytes),
            whole("million_spawned", Unit::Seconds),
            whole("million_woken", MICROSECONDS_EACH_PROCESS),
            whole("million_asleep_again", Unit::Bytes),
        ],
        schedulers: &[],
        guests: BOTH,
        work: Work::Million,
    },
];

const MICROSECONDS: Unit = Unit::Microseconds("us");

const FAIR_BUSY_4: [Figure; 5] = fairness("fair_busy4");
const FAIR_BUSY_1000: [Figure; 5] = fairness("fair_busy1000");

const fn fairness(name: &'static str) -> [Figure; 5] {
    const ROUND_TRIP: Unit = Unit::Microseconds("us/rt");
    [
        sampled(name, "_p50", ROUND_TRIP, 50.0),
        sampled(name, "_p99", ROUND_TRIP, 99.0),
        sampled(name, "_p99.9", ROUND_TRIP, 99.9),
        sampled(name, "_max", ROUND_TRIP, 100.0),
        Figure {
            name,
            part: "_samples",
            unit: Unit::Count,
            pick: Pick::SampleCount,
        },
    ]
}

/// A figure for the time of the whole work.
const fn whole(name: &'static str, unit: Unit) -> Figure {
    Figure {
        name,
        part: "",
        unit,
        pick: Pick::Whole,
    }
}

/// A figure that `percent` percent of the samples don't exceed.
const fn sampled(name: &'static str, part: &'static str, unit: Unit, percent: f64) -> Figure {
    Figure {
        name,
        part,
        unit,
        pick: Pick::Percentile(percent),
    }
}

const fn timed(function: &'static str, n: u32, m: u32) -> Work {
    Work::Timed { function, n, m }
}
