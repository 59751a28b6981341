//! The findings and the work of a round, as data: a child writes it, and its parent adds up many.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A promise that was broken in a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub invariant: Invariant,
    /// The observation, in words.
    pub text: String,
}

/// The promises that every round checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// The host's process does not abort, and no signal ends it.
    Abort,
    /// The host never panics.
    Panic,
    /// The host goes on: its threads, its shutdown, its kills.
    Hang,
    /// The host's memory stays bounded.
    Memory,
    /// Loading a program takes a bounded time.
    Loading,
    /// No canary is harmed: no byte changes, no message is lost.
    Canary,
    /// No canary waits longer than a bound.
    Latency,
    /// No process finds what another one has left.
    Secret,
    /// When no process is left, nothing is held.
    Leak,
    /// A process that was killed has ended.
    Kill,
}

impl Invariant {
    /// The name in reports and of folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::Memory => "memory",
            Self::Loading => "loading",
            Self::Canary => "canary",
            Self::Latency => "latency",
            Self::Secret => "secret",
            Self::Leak => "leak",
            Self::Kill => "kill",
        }
    }

    /// Whether a busy machine alone can break it.
    pub fn depends_on_time(self) -> bool {
        matches!(
            self,
            Self::Hang | Self::Latency | Self::Loading | Self::Kill
        )
    }
}

/// The result of a round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    pub ledger: Ledger,
}

impl Outcome {
    pub fn find(&mut self, invariant: Invariant, text: impl Into<String>) {
        self.findings.push(Finding {
            invariant,
            text: text.into(),
        });
    }
}

/// The work of one round, or of many.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    pub rounds: u64,
    /// Modules by kind: how many were run, and how many the loader has refused.
    pub modules: BTreeMap<String, [u64; 2]>,
    pub processes: u64,
    pub crashes: u64,
    pub kills: u64,
    pub messages: u64,
    pub recycled: u64,
    pub packed: u64,
    pub woken: u64,
    /// Steps of the canaries.
    pub canary_steps: u64,
    /// Worst wait of a canary, in microseconds: without attackers, and beside them.
    pub wait_alone_us: u64,
    pub wait_beside_us: u64,
    /// The most memory that a program has kept when its system was gone.
    pub kept_bytes: u64,
    /// By function of the host: calls that returned 0 or nothing, calls that returned anything else, calls that trapped.
    pub calls: BTreeMap<String, [u64; 3]>,
}

impl Ledger {
    /// Adds the work of another round.
    pub fn add(&mut self, other: &Ledger) {
        self.rounds += other.rounds;
        for (kind, counts) in &other.modules {
            add(self.modules.entry(kind.clone()).or_default(), counts);
        }
        for (function, counts) in &other.calls {
            add(self.calls.entry(function.clone()).or_default(), counts);
        }
        self.processes += other.processes;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.messages += other.messages;
        self.recycled += other.recycled;
        self.packed += other.packed;
        self.woken += other.woken;
        self.canary_steps += other.canary_steps;
        self.wait_alone_us = self.wait_alone_us.max(other.wait_alone_us);
        self.kept_bytes = self.kept_bytes.max(other.kept_bytes);
        self.wait_beside_us = self.wait_beside_us.max(other.wait_beside_us);
    }

    pub fn modules(&self) -> u64 {
        self.modules
            .values()
            .map(|[run, refused]| run + refused)
            .sum()
    }

    pub fn host_calls(&self) -> u64 {
        self.calls.values().flatten().sum()
    }

    /// The ledger as text, with what an hour of this would do.
    pub fn report(&self, seconds: f64) -> String {
        let mut text = String::new();
        let rows = [
            ("rounds", self.rounds),
            ("modules", self.modules()),
            ("processes", self.processes),
            ("host calls", self.host_calls()),
            ("crashes", self.crashes),
            ("kills", self.kills),
            ("messages from outside", self.messages),
            ("instances recycled", self.recycled),
            ("processes hibernated", self.packed),
            ("processes woken", self.woken),
            ("steps of canaries", self.canary_steps),
        ];
        let _ = writeln!(text, "{:<24}{:>14}{:>18}", "work", "done", "an hour");
        for (what, count) in rows {
            let hourly = count as f64 / seconds.max(0.001) * 3600.0;
            let _ = writeln!(text, "{what:<24}{count:>14}{hourly:>18.0}");
        }
        let milliseconds = |us: u64| us as f64 / 1000.0;
        let _ = writeln!(
            text,
            "worst wait of a canary: {:.1} ms alone, {:.1} ms beside attackers",
            milliseconds(self.wait_alone_us),
            milliseconds(self.wait_beside_us)
        );
        let kept = self.kept_bytes >> 20;
        let _ = writeln!(
            text,
            "memory kept when a system was gone: at most {kept} MiB"
        );
        let _ = writeln!(
            text,
            "\n{:<24}{:>14}{:>18}",
            "modules", "run", "refused by loader"
        );
        for (kind, [run, refused]) in &self.modules {
            let _ = writeln!(text, "{kind:<24}{run:>14}{refused:>18}");
        }
        text
    }

    /// The coverage of the host's functions as text, and how many were never called.
    pub fn coverage(&self, functions: &[String]) -> String {
        let mut text = format!(
            "{:<32}{:>14}{:>14}{:>14}\n",
            "function of the host", "returned 0", "returned else", "trapped"
        );
        let mut missing = 0;
        for function in functions {
            let [zero, other, trapped] = self.calls.get(function).copied().unwrap_or_default();
            missing += u64::from(zero + other + trapped == 0);
            let _ = writeln!(text, "{function:<32}{zero:>14}{other:>14}{trapped:>14}");
        }
        let _ = writeln!(
            text,
            "{} functions, {missing} of them never called",
            functions.len()
        );
        text
    }
}

fn add<const N: usize>(to: &mut [u64; N], counts: &[u64; N]) {
    for (sum, count) in to.iter_mut().zip(counts) {
        *sum += count;
    }
}
