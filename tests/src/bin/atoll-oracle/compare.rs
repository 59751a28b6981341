//! Compares two traces. Brings what is not determined into a canonical form; everything else must be equal.
//!
//! [`scenario`](crate::scenario) says what is not determined, and why.

use crate::scenario::{Trace, label_number};

/// The line index of the first difference between two traces in canonical form. `None` if they agree.
///
/// The word `this|that` in the expected trace agrees with either word.
pub fn difference(expected: &Trace, found: &Trace) -> Option<usize> {
    let lines = expected.len().max(found.len());
    (0..lines).find(|&index| match (expected.get(index), found.get(index)) {
        (Some(expected), Some(found)) => !agree(expected, found),
        _ => true,
    })
}

fn agree(expected: &str, found: &str) -> bool {
    if expected == found || !expected.contains('|') {
        return expected == found;
    }
    let is_allowed = |(expected, found): (&str, &str)| expected.split('|').any(|it| it == found);
    expected.split(' ').count() == found.split(' ').count()
        && expected.split(' ').zip(found.split(' ')).all(is_allowed)
}

/// Converts a trace to canonical form.
pub fn canonical(trace: &[String]) -> Trace {
    let mut lines = trace
        .iter()
        .map(|line| with_sorted_sets(line))
        .collect::<Vec<_>>();
    // Indented lines in a row are the effects of one group of steps.
    let mut start = 0;
    while start < lines.len() {
        let is_seen = |line: &String| line.starts_with("  ");
        let end = start
            + lines[start..]
                .iter()
                .take_while(|line| is_seen(line))
                .count();
        if end == start {
            start += 1;
            continue;
        }
        let seen = lines[start..end].to_vec();
        let seen = canonical_events(seen);
        start += seen.len();
        lines.splice(start - seen.len()..end, seen);
    }
    lines
}

/// Sorts the events of each drained actor. If an event had woken the actor, that event is sorted with them.
fn canonical_events(mut lines: Vec<String>) -> Vec<String> {
    let mut index = 0;
    while index < lines.len() {
        let Some((actor, events)) = lines[index].trim_start().split_once(" drained ") else {
            index += 1;
            continue;
        };
        let woke = format!("  {actor} woke ");
        let waking = lines
            .iter()
            .position(|line| line.strip_prefix(&woke).is_some_and(is_event));
        let mut events = events.split("; ").map(str::to_owned).collect::<Vec<_>>();
        match waking {
            Some(waking) => {
                events.push(lines[waking][woke.len()..].to_owned());
                events.sort();
                lines[index] = format!("  {actor} took {}", events.join("; "));
                lines.remove(waking);
            }
            None => {
                sort_by_sender(&mut events);
                lines[index] = format!("  {actor} drained {}", events.join("; "));
                index += 1;
            }
        }
    }
    lines
}

/// Was the actor woken by an event? Otherwise it was woken by the end of a call.
fn is_event(text: &str) -> bool {
    let mut words = text.split(' ');
    match words.next() {
        Some("message" | "exit" | "timer" | "group") => true,
        Some("down") => words
            .next()
            .is_some_and(|word| label_number(word, 'r').is_some()),
        _ => false,
    }
}

/// Sorts events by sender. Messages of one sender keep their positions; signals of one sender in a row are sorted by their texts.
fn sort_by_sender(events: &mut [String]) {
    events.sort_by_key(|event| sender(event));
    let is_signal = |event: &String| !event.starts_with("message ");
    let mut rest = events;
    while !rest.is_empty() {
        let first = sender(&rest[0]);
        let run = rest
            .iter()
            .take_while(|event| is_signal(event) && sender(event) == first)
            .count();
        let (signals, others) = rest.split_at_mut(run.max(1));
        signals.sort();
        rest = others;
    }
}

/// The event's sender as a sort key: the number of an actor; larger numbers for names, timers and groups.
fn sender(event: &str) -> usize {
    let mut words = event.split(' ');
    let kind = words.next().unwrap_or_default();
    let from = match kind {
        "message" | "exit" => words.next(),
        "down" => words.nth(1),
        _ => None,
    };
    let actor = from.and_then(|word| label_number(word, 'a'));
    actor.unwrap_or(match kind {
        "timer" => usize::MAX - 1,
        "group" => usize::MAX,
        // This is a monitor by name.
        _ => usize::MAX - 2,
    })
}

/// Sorts the words between braces.
fn with_sorted_sets(line: &str) -> String {
    let mut parts = line.split(['{', '}']).enumerate();
    let mut sorted = String::new();
    for (index, part) in parts.by_ref() {
        if index % 2 == 0 {
            sorted += part;
            continue;
        }
        let mut words = part.split(',').collect::<Vec<_>>();
        words.sort_by_key(|word| (word.len(), *word));
        sorted += &format!("{{{}}}", words.join(","));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(text: &str) -> Trace {
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check_agree(one: &str, other: &str, agree: bool) {
        let (one, other) = (canonical(&trace(one)), canonical(&trace(other)));
        assert_eq!(
            difference(&one, &other).is_none(),
            agree,
            "{one:?} {other:?}"
        );
    }

    #[test]
    fn sets_have_no_order() {
        check_agree("  => {a10,a2} {n1}", "  => {a2,a10} {n1}", true);
        check_agree("  => {a10,a2}", "  => {a2}", false);
    }

    #[test]
    fn drained_events_of_one_sender_keep_their_order() {
        let one = "  a0 drained message a1 tag 1 n 1; message a2 tag 1 n 5; message a1 tag 1 n 2";
        let other = "  a0 drained message a1 tag 1 n 1; message a1 tag 1 n 2; message a2 tag 1 n 5";
        let wrong = "  a0 drained message a1 tag 1 n 2; message a1 tag 1 n 1; message a2 tag 1 n 5";
        check_agree(one, other, true);
        check_agree(one, wrong, false);
    }

    #[test]
    fn signals_of_one_death_have_no_order() {
        let one =
            "  a0 drained message a1 tag 1 n 1; exit a1 kill; down r1 a1 kill; group r2 left a1";
        let other =
            "  a0 drained group r2 left a1; message a1 tag 1 n 1; down r1 a1 kill; exit a1 kill";
        let wrong =
            "  a0 drained exit a1 kill; message a1 tag 1 n 1; down r1 a1 kill; group r2 left a1";
        check_agree(one, other, true);
        check_agree(one, wrong, false);
    }

    #[test]
    fn any_of_several_events_may_have_woken_the_actor() {
        let one = "a\n  => ok\n  a0 woke exit a1 kill\n  a0 drained down r1 a1 kill";
        let other = "a\n  => ok\n  a0 woke down r1 a1 kill\n  a0 drained exit a1 kill";
        check_agree(one, other, true);
        check_agree(
            "  a0 woke down kill\n  a0 drained exit a1 kill",
            "  a0 woke timeout\n  a0 drained exit a1 kill",
            false,
        );
    }

    #[test]
    fn an_expected_word_may_have_alternatives() {
        let expected = trace("  => taken|noproc");
        assert_eq!(difference(&expected, &trace("  => noproc")), None);
        assert_eq!(difference(&expected, &trace("  => ok")), Some(0));
        assert_eq!(difference(&expected, &trace("")), Some(0));
    }
}
