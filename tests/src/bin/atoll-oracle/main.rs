//! `atoll-oracle`: compares Atoll with Erlang.
//!
//! A guest on Atoll and a module on OTP perform scenarios, in which processes link, monitor, kill, call and wait. They run with
//! one scheduler and with several. Their traces must agree. `cargo xtask oracle` builds what is needed and runs it.
//!
//! ```text
//!   scenario   the language, and what may differ where OTP's documentation leaves it open
//!   generate   random scenarios, by seed      model   the generator's knowledge of a scenario so far
//!   rules      hand-written scenarios, one for each rule of the documentation
//!   run        a batch of scenarios on one side
//!   compare    the comparison of two traces
//!   shrink     the smallest scenario on which the sides disagree
//!   coverage   counts of what was exercised
//! ```

mod compare;
mod coverage;
mod generate;
mod model;
mod rules;
mod run;
mod scenario;
mod shrink;

use anyhow::{Context, Result, bail};
use clap::Parser;
use compare::difference;
use coverage::Coverage;
use rules::Rule;
use run::{Runner, Side};
use scenario::{HANG, Scenario, Trace};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// The number of scenarios in one batch.
const BATCH: usize = 200;
/// The size of the first batch if a rule is broken. Many scenarios may hang, and one is enough.
const BROKEN_BATCH: usize = 8;
/// The number of disagreements that are shown, and the number of others that are only named.
const SHOWN_MAX: usize = 3;
const NAMED_MAX: usize = 40;
/// From this many seeds on, every operation and reason must have occurred.
const SEEDS_FOR_COVERAGE: u64 = 300;

/// The rules that a build of Atoll with the feature `break-rules` can break. The comparison must notice each.
const BREAKABLE: [&str; 9] = [
    "kill-is-trappable",
    "normal-exit-kills",
    "unlink-is-late",
    "down-is-lost",
    "link-one-way",
    "names-survive",
    "late-reply-arrives",
    "selective-order",
    "timer-uncancellable",
];

/// Runs scenarios on Atoll and on Erlang and compares what happens.
#[derive(Parser)]
#[command(name = "atoll-oracle")]
struct Arguments {
    /// The number of random scenarios to run, besides the hand-written ones
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run only the hand-written scenarios
    #[arg(long)]
    rules_only: bool,
    /// Have Atoll break a rule, or each of them in turn: `all`
    #[arg(long, value_name = "RULE", value_parser = breakable)]
    r#break: Option<&'static str>,
    /// The numbers of schedulers to run with
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 4])]
    schedulers: Vec<usize>,
    /// Print a scenario, by the seed or by the name of the rule, and what each side does
    #[arg(long, value_name = "SEED|RULE")]
    show: Option<String>,
    /// Record Erlang's traces as the expected traces of the hand-written scenarios
    #[arg(long)]
    record: bool,
    /// Run Erlang's side only
    #[arg(long)]
    erlang_only: bool,
    /// The program `atoll` [default: the release build of this repository]
    #[arg(long, env = "ATOLL_BIN", hide_env_values = true)]
    atoll: Option<PathBuf>,
    /// The folder of built guests [default: that of `cargo xtask guests`]
    #[arg(long, env = "ATOLL_GUESTS", hide_env_values = true)]
    guests: Option<PathBuf>,
    /// The folder of Erlang's side and of the rules [default: that of this repository]
    #[arg(long)]
    sources: Option<PathBuf>,
}

fn breakable(name: &str) -> Result<&'static str, String> {
    let known = BREAKABLE.iter().copied().chain(["all"]);
    let found = known.clone().find(|known| *known == name);
    found.ok_or_else(|| {
        format!(
            "these can be broken: {}",
            known.collect::<Vec<_>>().join(", ")
        )
    })
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The settings and tools of a run.
struct Oracle {
    runner: Runner,
    rules: Vec<Rule>,
    schedulers: Vec<usize>,
    erlang_only: bool,
}

fn run(arguments: Arguments) -> Result<()> {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let here = |path: &str| PathBuf::from(repository).join(path);
    let sources = arguments.sources.unwrap_or_else(|| here("tests/oracle"));
    let guests = arguments.guests.unwrap_or_else(|| here("target/guests"));
    let atoll = arguments
        .atoll
        .unwrap_or_else(|| here("target/release/atoll"));
    let mut oracle = Oracle {
        runner: Runner::new(
            atoll,
            guests.join("oracle.wasm"),
            &sources.join("oracle.erl"),
        )?,
        rules: rules::load(&sources.join("rules"))?,
        schedulers: arguments.schedulers,
        erlang_only: arguments.erlang_only,
    };
    if oracle.schedulers.is_empty() {
        bail!("there has to be a number of schedulers");
    }
    if let Some(what) = arguments.show {
        return oracle.show(&what);
    }
    if arguments.record {
        return oracle.record();
    }
    let seeds = if arguments.rules_only {
        0
    } else {
        arguments.seeds
    };
    let mut scenarios = oracle
        .rules
        .iter()
        .map(|rule| rule.scenario.clone())
        .collect::<Vec<_>>();
    scenarios.extend(
        (arguments.first..)
            .take(seeds as usize)
            .map(generate::scenario),
    );
    match arguments.r#break {
        None => oracle.compare(&scenarios, seeds),
        Some("all") => {
            let mut missed = Vec::new();
            for rule in BREAKABLE {
                if oracle.compare_broken(rule, &scenarios)?.is_none() {
                    missed.push(rule);
                }
            }
            if !missed.is_empty() {
                bail!("not noticed: {}", missed.join(", "));
            }
            println!("each of {} broken rules was noticed", BREAKABLE.len());
            Ok(())
        }
        Some(rule) => match oracle.compare_broken(rule, &scenarios)? {
            Some(seen) => bail!("with `{rule}`, Atoll and Erlang disagree\n{seen}"),
            // The caller expects a failure, so success must not look like one.
            None => {
                println!("`{rule}` was not noticed");
                Ok(())
            }
        },
    }
}

/// A scenario on which two sides disagree.
struct Disagreement {
    scenario: Scenario,
    sides: [Side; 2],
    traces: [Option<Trace>; 2],
}

impl Oracle {
    /// The side with which the others are compared.
    fn reference(&self) -> Side {
        Side::Erlang(self.schedulers[0])
    }

    fn others(&self) -> Vec<Side> {
        let erlang = self.schedulers[1..].iter().copied().map(Side::Erlang);
        let atoll = self.schedulers.iter().copied().map(Side::Atoll);
        let hibernating = self.schedulers.iter().copied().map(Side::Hibernating);
        let atoll = atoll.chain(hibernating).filter(|_| !self.erlang_only);
        erlang.chain(atoll).collect()
    }

    /// Runs all scenarios on all sides, prints the coverage, and fails if there is a disagreement.
    fn compare(&self, scenarios: &[Scenario], seeds: u64) -> Result<()> {
        let start = Instant::now();
        let mut coverage = Coverage::default();
        let mut disagreements = Vec::new();
        for batch in scenarios.chunks(BATCH) {
            let traces = self.run_sides(&self.others(), batch)?;
            disagreements.extend(self.disagreements(&self.others(), batch, &traces));
            let last = traces.last().context("there is at least one side")?;
            last.iter().flatten().for_each(|trace| coverage.add(trace));
        }
        println!("{}", coverage.table());
        for disagreement in disagreements.iter().take(SHOWN_MAX) {
            let smallest =
                shrink::shrink(&self.runner, disagreement.sides, &disagreement.scenario)?;
            println!("{}", self.describe(disagreement, &smallest)?);
        }
        for disagreement in disagreements.iter().skip(SHOWN_MAX).take(NAMED_MAX) {
            let [_, side] = disagreement.sides;
            println!("=== {}: {side}, too", disagreement.scenario.name);
        }
        let missing = coverage.missing();
        println!(
            "{} scenarios, {} written by hand, on {} sides in {:.1} s: {} disagreements",
            scenarios.len(),
            self.rules.len(),
            self.others().len() + 1,
            start.elapsed().as_secs_f64(),
            disagreements.len()
        );
        if !disagreements.is_empty() {
            bail!("{} disagreements", disagreements.len());
        }
        if seeds >= SEEDS_FOR_COVERAGE && !missing.is_empty() {
            bail!("never exercised: {}", missing.join(", "));
        }
        Ok(())
    }

    /// The traces of each side, the reference first. The sides run at the same time.
    fn run_sides(&self, others: &[Side], batch: &[Scenario]) -> Result<Vec<Vec<Option<Trace>>>> {
        let sides = std::iter::once(self.reference()).chain(others.iter().copied());
        std::thread::scope(|scope| {
            let running = sides
                .map(|side| scope.spawn(move || self.runner.run(side, batch)))
                .collect::<Vec<_>>();
            let ended = running.into_iter().map(|thread| match thread.join() {
                Ok(traces) => traces,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect()
        })
    }

    /// Finds the scenarios where a side disagrees with the reference, or the reference with the recorded trace.
    fn disagreements(
        &self,
        others: &[Side],
        batch: &[Scenario],
        traces: &[Vec<Option<Trace>>],
    ) -> Vec<Disagreement> {
        let mut disagreements = Vec::new();
        for (index, scenario) in batch.iter().enumerate() {
            let expected = &traces[0][index];
            let mut disagree = |side, found: &Option<Trace>| {
                disagreements.push(Disagreement {
                    scenario: scenario.clone(),
                    sides: [self.reference(), side],
                    traces: [expected.clone(), found.clone()],
                });
            };
            let hangs =
                |trace: &Trace| trace.iter().any(|line| line.trim_start().starts_with(HANG));
            if expected.as_ref().is_none_or(hangs) {
                disagree(self.reference(), expected);
                continue;
            }
            if let Some(recorded) = self.recorded(scenario)
                && differ(&Some(recorded.clone()), expected)
            {
                disagree(self.reference(), &Some(recorded.clone()));
            }
            for (side, traces) in others.iter().zip(&traces[1..]) {
                if differ(expected, &traces[index]) {
                    disagree(*side, &traces[index]);
                }
            }
        }
        disagreements
    }

    /// The expected trace of a hand-written scenario.
    fn recorded(&self, scenario: &Scenario) -> Option<&Trace> {
        let rule = self.rules.iter().find(|rule| rule.scenario == *scenario)?;
        (!rule.expected.is_empty()).then_some(&rule.expected)
    }

    /// Runs until a broken rule is noticed, and returns the disagreement. The reference's other numbers of schedulers don't
    /// matter.
    fn compare_broken(
        &mut self,
        rule: &'static str,
        scenarios: &[Scenario],
    ) -> Result<Option<String>> {
        self.runner.broken = Some(rule);
        let sides = [Side::Atoll(
            *self.schedulers.last().context("there are schedulers")?,
        )];
        let mut rest = scenarios;
        let mut size = BROKEN_BATCH;
        while !rest.is_empty() {
            let batch;
            (batch, rest) = rest.split_at(size.min(rest.len()));
            size = (size * 2).min(BATCH);
            let traces = self.run_sides(&sides, batch)?;
            let found = self.disagreements(&sides, batch, &traces);
            if let Some(first) = found.first() {
                let name = &first.scenario.name;
                println!(
                    "{rule}: noticed by {} of the first {} scenarios, {name} first",
                    found.len(),
                    scenarios.len() - rest.len()
                );
                return self.describe(first, &first.scenario).map(Some);
            }
        }
        println!("{rule}: not noticed by {} scenarios", scenarios.len());
        Ok(None)
    }

    /// Describes a disagreement by its smallest scenario, if that still disagrees.
    fn describe(&self, disagreement: &Disagreement, smallest: &Scenario) -> Result<String> {
        let [expected, found] = disagreement.sides;
        let name = &disagreement.scenario.name;
        let mut text = format!("=== {name}: {expected} and {found} disagree\n");
        let mut traces = disagreement.traces.clone();
        if expected == found {
            text = format!("=== {name}: {expected} hangs, or does not do what is recorded\n");
        } else {
            let again = [
                self.trace(expected, smallest)?,
                self.trace(found, smallest)?,
            ];
            if differ(&again[0], &again[1]) {
                traces = again;
            } else {
                text += "(not always: they agreed when it was run once more)\n";
            }
        }
        let [expected_trace, found_trace] = traces.map(|trace| whole(trace, smallest));
        let index = difference(&expected_trace, &found_trace).unwrap_or(usize::MAX);
        for (side, trace) in [(expected, &expected_trace), (found, &found_trace)] {
            text += &format!("--- {side}\n{}", marked(trace, index));
        }
        let again = match name.strip_prefix("seed-") {
            Some(seed) => format!("--first {seed} --seeds 1"),
            None => format!("--show {name}"),
        };
        text += &format!("--- again: cargo xtask oracle {again}\n");
        Ok(text)
    }

    fn trace(&self, side: Side, scenario: &Scenario) -> Result<Option<Trace>> {
        let mut traces = self.runner.run(side, std::slice::from_ref(scenario))?;
        Ok(traces.pop().flatten())
    }

    fn show(&self, what: &str) -> Result<()> {
        let scenario = match what.parse() {
            Ok(seed) => generate::scenario(seed),
            Err(_) => {
                let rule = self.rules.iter().find(|rule| rule.scenario.name == what);
                rule.with_context(|| format!("there is no rule `{what}`"))?
                    .scenario
                    .clone()
            }
        };
        let expected = whole(self.trace(self.reference(), &scenario)?, &scenario);
        println!(
            "--- {}\n{}",
            self.reference(),
            marked(&expected, usize::MAX)
        );
        let mut agree = true;
        for side in self.others() {
            let found = whole(self.trace(side, &scenario)?, &scenario);
            match difference(&expected, &found) {
                None => println!("--- {side}: the same"),
                Some(index) => {
                    agree = false;
                    println!("--- {side}\n{}", marked(&found, index));
                }
            }
        }
        if !agree {
            bail!("they disagree");
        }
        Ok(())
    }

    fn record(&self) -> Result<()> {
        let scenarios = self
            .rules
            .iter()
            .map(|rule| rule.scenario.clone())
            .collect::<Vec<_>>();
        let traces = self.runner.run(self.reference(), &scenarios)?;
        for (rule, trace) in self.rules.iter().zip(traces) {
            let name = &rule.scenario.name;
            rule.record(&trace.with_context(|| format!("{name} has no trace"))?)?;
        }
        println!("recorded {} rules", self.rules.len());
        Ok(())
    }
}

fn differ(expected: &Option<Trace>, found: &Option<Trace>) -> bool {
    match (expected, found) {
        (Some(expected), Some(found)) => difference(expected, found).is_some(),
        _ => true,
    }
}

/// A trace to print; without a trace, the scenario instead.
fn whole(trace: Option<Trace>, scenario: &Scenario) -> Trace {
    trace.unwrap_or_else(|| {
        let mut lines = vec!["(no trace: it has ended in this scenario)".to_owned()];
        lines.extend(scenario.to_string().lines().map(str::to_owned));
        lines
    })
}

/// A trace with a mark at the line with this index.
fn marked(trace: &Trace, marked: usize) -> String {
    let mark = |index| if index == marked { ">" } else { " " };
    let lines = trace.iter().enumerate();
    lines
        .map(|(index, line)| format!("{} {line}\n", mark(index)))
        .collect()
}
