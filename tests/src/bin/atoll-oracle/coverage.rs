//! Counts what the scenarios have exercised. It counts in traces, so only what really happened.

use crate::scenario::{OPERATIONS, REASONS, Trace, label_number};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Variants of steps that are counted separately.
const VARIANTS: [&str; 5] = [
    "par",
    "spawn link",
    "spawn monitor",
    "spawn name",
    "spawn priority",
];
/// The events in which a reason appears.
const PLACES: [&str; 4] = ["ended", "exit", "down", "call"];

/// The counts.
#[derive(Default)]
pub struct Coverage {
    /// By operation and result.
    operations: BTreeMap<String, BTreeMap<String, u64>>,
    /// By reason, one count for each of [`PLACES`].
    reasons: BTreeMap<String, [u64; PLACES.len()]>,
    /// By effect beside the results: woken and drained actors.
    effects: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Counts the lines of a trace in canonical form.
    pub fn add(&mut self, trace: &Trace) {
        let mut steps: Vec<&str> = Vec::new();
        for line in trace {
            let Some(seen) = line.strip_prefix("  ") else {
                if let Some(name) = line.strip_prefix("par ") {
                    self.count("par", name);
                } else {
                    steps.push(line);
                }
                continue;
            };
            if let Some(result) = seen.strip_prefix("=> ") {
                // The first line of a trace is the number of actors.
                steps.retain(|step| !step.starts_with("actors "));
                if !steps.is_empty() {
                    self.add_result(steps.remove(0), result);
                }
            } else if let Some((_, reason)) = seen.split_once(" ended ") {
                self.count_reason(reason, 0);
            } else {
                for (word, effect) in [
                    (" woke ", "woken"),
                    (" drained ", "drained"),
                    (" took ", "woken and drained"),
                ] {
                    if let Some((_, events)) = seen.split_once(word) {
                        *self.effects.entry(effect).or_default() += 1;
                        self.add_events(events);
                    }
                }
            }
        }
    }

    fn add_result(&mut self, step: &str, result: &str) {
        let words = step.split(' ').collect::<Vec<_>>();
        let operation = words.get(1).copied().unwrap_or_default();
        let class = class_of(result);
        self.count(operation, class);
        if class != "skipped" && operation == "spawn" {
            for variant in VARIANTS {
                let option = variant.strip_prefix("spawn ");
                if option.is_some_and(|option| words.contains(&option)) {
                    self.count(variant, class);
                }
            }
        }
        self.add_events(result);
    }

    fn add_events(&mut self, events: &str) {
        for event in events.split("; ") {
            let words = event.split(' ').collect::<Vec<_>>();
            match words.as_slice() {
                ["exit", _, reason] => self.count_reason(reason, 1),
                ["down", _, _, reason] => self.count_reason(reason, 2),
                ["down", reason] => self.count_reason(reason, 3),
                _ => {}
            }
        }
    }

    fn count(&mut self, operation: &str, class: &str) {
        let classes = self.operations.entry(operation.to_owned()).or_default();
        *classes.entry(class.to_owned()).or_default() += 1;
    }

    fn count_reason(&mut self, reason: &str, place: usize) {
        let kind = reason.split_inclusive(':').next().unwrap_or_default();
        self.reasons.entry(kind.to_owned()).or_default()[place] += 1;
    }

    fn performed(&self, operation: &str) -> u64 {
        let classes = self.operations.get(operation).into_iter().flatten();
        let performed = classes.filter(|(class, _)| *class != "skipped");
        performed.map(|(_, count)| count).sum()
    }

    /// The operations and reasons that never occurred.
    pub fn missing(&self) -> Vec<&'static str> {
        let operations = OPERATIONS.into_iter().chain(VARIANTS);
        let unperformed = operations.filter(|operation| self.performed(operation) == 0);
        let unseen = REASONS
            .into_iter()
            .filter(|reason| !self.reasons.contains_key(*reason));
        unperformed.chain(unseen).collect()
    }

    /// A table of all counts.
    pub fn table(&self) -> String {
        let mut table = format!("{:<18} {:>9}  results\n", "step", "performed");
        for operation in OPERATIONS.into_iter().chain(VARIANTS) {
            let classes = self.operations.get(operation).into_iter().flatten();
            let classes = classes.map(|(class, count)| format!("{class} {count}"));
            let classes = classes.collect::<Vec<_>>().join(", ");
            let performed = self.performed(operation);
            // Writing to a string can't fail.
            let _ = writeln!(table, "{operation:<18} {performed:>9}  {classes}");
        }
        let _ = write!(table, "\n{:<18}", "reason");
        for place in PLACES {
            let _ = write!(table, " {place:>8}");
        }
        for reason in REASONS {
            let counts = self.reasons.get(reason).copied().unwrap_or_default();
            let _ = write!(table, "\n{reason:<18}");
            for count in counts {
                let _ = write!(table, " {count:>8}");
            }
        }
        table.push('\n');
        for (effect, count) in &self.effects {
            let _ = write!(table, "\nactors {effect}: {count}");
        }
        table.push('\n');
        table
    }
}

/// The kind of a result: its first word, if that is meaningful.
fn class_of(result: &str) -> &str {
    let first = result.split(' ').next().unwrap_or_default();
    match first {
        _ if result.contains("; ") => "events",
        _ if first.starts_with('{') => "set",
        _ if label_number(first, 'a').is_some() => "process",
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_counted() {
        let mut coverage = Coverage::default();
        let text = "actors 2\npar 2\na0 exit other:x\na0 yield\n  => died\n  => skipped\n  a0 ended other:x\n  \
                    a1 drained exit a0 other:x; down r1 a0 other:x";
        coverage.add(&text.lines().map(str::to_owned).collect());
        assert_eq!(coverage.performed("exit"), 1);
        assert_eq!(coverage.performed("yield"), 0);
        assert_eq!(coverage.performed("par"), 1);
        assert_eq!(coverage.reasons["other:"], [1, 1, 1, 0]);
        assert!(coverage.missing().contains(&"yield") && !coverage.missing().contains(&"exit"));
    }
}
