//! Shrinks a scenario on which two sides disagree, by removing steps.
//!
//! It removes halves first, then quarters, down to single steps. All candidates of a round run in one batch on each side. The
//! next round starts from the first candidate on which the sides still disagree.

use crate::compare::difference;
use crate::run::{Runner, Side};
use crate::scenario::{Group, Scenario};
use anyhow::Result;

/// A scenario of forty steps takes a dozen rounds. The limit ends the search if the sides disagree only in some runs.
const ROUNDS_MAX: usize = 200;

/// The smallest scenario found on which the two sides disagree; the given one, if they agree about it now.
pub fn shrink(runner: &Runner, sides: [Side; 2], scenario: &Scenario) -> Result<Scenario> {
    let mut smallest = scenario.clone();
    let mut size = smallest.groups.len().div_ceil(2);
    for _ in 0..ROUNDS_MAX {
        let candidates = candidates(&smallest, size);
        match first_disagreement(runner, sides, &candidates)? {
            Some(index) => smallest = candidates[index].clone(),
            None if size == 1 => break,
            None => size = size.div_ceil(2),
        }
        size = size.min(smallest.groups.len().max(1));
    }
    Ok(smallest)
}

/// The scenario without each run of `size` steps; for single steps, also bursts without one of their steps.
fn candidates(scenario: &Scenario, size: usize) -> Vec<Scenario> {
    let mut candidates = Vec::new();
    for start in (0..scenario.groups.len()).step_by(size) {
        let mut candidate = scenario.clone();
        let end = (start + size).min(candidate.groups.len());
        candidate.groups.drain(start..end);
        candidates.push(candidate);
    }
    if size > 1 {
        return candidates;
    }
    for (index, group) in scenario.groups.iter().enumerate() {
        let Group::Burst(steps) = group else { continue };
        for left_out in 0..steps.len() {
            let mut steps = steps.clone();
            steps.remove(left_out);
            let mut candidate = scenario.clone();
            candidate.groups[index] = match steps.len() {
                1 => Group::One(steps.remove(0)),
                _ => Group::Burst(steps),
            };
            candidates.push(candidate);
        }
    }
    candidates
}

fn first_disagreement(
    runner: &Runner,
    sides: [Side; 2],
    candidates: &[Scenario],
) -> Result<Option<usize>> {
    let [expected, found] = sides.map(|side| runner.run(side, candidates));
    let (expected, found) = (expected?, found?);
    Ok(
        (0..candidates.len()).find(|&index| match (&expected[index], &found[index]) {
            (Some(expected), Some(found)) => difference(expected, found).is_some(),
            _ => true,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_smaller() {
        let text = "actors 2\na0 drain\npar 2\na0 yield\na1 yield\na1 drain\n";
        let scenario = Scenario::parse("some", text).unwrap();
        let halves = candidates(&scenario, 2);
        assert_eq!(
            halves.iter().map(|it| it.groups.len()).collect::<Vec<_>>(),
            [1, 2]
        );
        let singles = candidates(&scenario, 1);
        assert_eq!(singles.len(), 3 + 2);
        assert_eq!(singles[3].groups[1], Group::One("a1 yield".to_owned()));
    }
}
