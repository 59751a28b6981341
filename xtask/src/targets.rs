//! The target of each figure: a ratio to Erlang's figure, or a number of its own.

use crate::bench::Figure;

/// The target of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this ratio to the cost in Erlang, measured beside it.
    Ratio(f64),
    /// At most this value, in the figure's unit.
    AtMost(f64),
    /// At least this value.
    AtLeast(f64),
}

use Target::{AtLeast, AtMost, Ratio};

/// The targets, by the names of the figures.
const TARGETS: &[(&str, Target)] = &[
    ("spawn_exit_seq_s1_bare", Ratio(0.5)),
    ("spawn_exit_seq_s1_rust", Ratio(1.0)),
    ("spawn_exit_batch_s1_bare", Ratio(1.0 / 1.5)),
    ("spawn_exit_batch_s1_rust", Ratio(1.0)),
    ("spawn_monitor_seq_s1_bare", Ratio(1.0)),
    ("spawn_monitor_seq_s1_rust", Ratio(1.0)),
    ("pingpong_ref_16B_s1_bare", Ratio(1.0)),
    ("pingpong_ref_16B_s1_rust", Ratio(1.3)),
    ("pingpong_copy_1KiB_s1_bare", Ratio(1.0)),
    ("pingpong_copy_1KiB_s1_rust", Ratio(1.3)),
    ("pingpong_copy_64KiB_s1_rust", Ratio(1.0)),
    ("pingpong_copy_1MiB_s1_rust", Ratio(1.0)),
    ("pingpong_two_16B_s2_bare", Ratio(1.0)),
    ("pingpong_two_16B_s2_rust", Ratio(1.0)),
    ("ring_1000_s1_bare", Ratio(0.9)),
    ("ring_1000_s1_rust", Ratio(0.9)),
    ("ring_100000_s1_bare", Ratio(0.9)),
    ("ring_100000_s1_rust", Ratio(0.9)),
    ("fanin_100x100000_s1_rust", Ratio(1.0)),
    ("fanin_100x100000_s2_rust", Ratio(1.0)),
    ("request_reply_s1_rust", Ratio(1.0)),
    ("selrecv_ref_10000_s1_bare", Ratio(1.0)),
    ("selrecv_ref_10000_s1_rust", Ratio(1.0)),
    ("timer_arm_100000_s1_rust", Ratio(1.0)),
    ("receive_after_1ms_s1_p50_rust", AtMost(1200.0)),
    ("fair_busy4_s2_p50_rust", Ratio(1.0)),
    ("fair_busy4_s2_p99_rust", Ratio(1.0)),
    ("fair_busy1000_s2_p50_rust", Ratio(1.0)),
    ("fair_busy1000_s2_p99_rust", Ratio(1.0)),
    ("cpu_fib_35_bare", Ratio(0.75)),
    ("cpu_sieve_5000000_rust", Ratio(0.1)),
    ("cpu_nbody_200000_rust", Ratio(0.15)),
    ("start_up_hello_rust", Ratio(0.1)),
    ("memory_live_bare", AtMost(16.0 * 1024.0)),
    ("million_asleep_bare", Ratio(0.6)),
    ("million_asleep_rust", Ratio(1.2)),
    ("million_spawned_bare", Ratio(3.0)),
    ("million_spawned_rust", Ratio(3.0)),
    ("million_woken_bare", AtMost(10.0)),
    ("million_woken_rust", AtMost(10.0)),
    ("pairs_100_speedup_rust", AtLeast(1.8)),
];

impl Target {
    /// The target of the figure with this name, if it has one.
    pub fn of(name: &str) -> Option<Target> {
        let found = TARGETS.iter().find(|(target, _)| *target == name);
        found.map(|(_, target)| *target)
    }

    /// Whether the figure meets the target. `ratio` is its cost relative to Erlang's; without it a ratio can't be judged.
    pub fn is_met(self, figure: &Figure, ratio: Option<f64>) -> Option<bool> {
        match self {
            Ratio(most) => ratio.map(|ratio| ratio <= most),
            AtMost(most) => Some(figure.value <= most),
            AtLeast(least) => Some(figure.value >= least),
        }
    }

    /// The target's text in the table.
    pub fn told(self) -> String {
        match self {
            Ratio(most) => format!("<= {most:.2}x"),
            AtMost(most) => format!("<= {most:.0}"),
            AtLeast(least) => format!(">= {least:.1}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_need_a_counterpart_and_numbers_do_not() {
        let figure = Figure {
            name: "x".to_owned(),
            value: 1.7,
            unit: "x".to_owned(),
        };
        assert_eq!(Ratio(1.0).is_met(&figure, Some(0.9)), Some(true));
        assert_eq!(Ratio(1.0).is_met(&figure, Some(1.1)), Some(false));
        assert_eq!(Ratio(1.0).is_met(&figure, None), None);
        assert_eq!(AtMost(1.0).is_met(&figure, None), Some(false));
        assert_eq!(AtLeast(1.8).is_met(&figure, None), Some(false));
    }

    #[test]
    fn no_figure_has_two_targets() {
        for (index, (name, _)) in TARGETS.iter().enumerate() {
            assert!(!TARGETS[index + 1..].iter().any(|(other, _)| other == name));
        }
    }
}
