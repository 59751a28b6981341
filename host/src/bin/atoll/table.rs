//! Reports about a running system and its processes, for people. OTP: `etop`.

use atoll_rt::{Pid, ProcessInfo, Spent, System, TreeInfo, printable_name};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

/// The number of rows in a table of processes.
const ROWS: usize = 20;
/// How long reductions are counted to find the busiest processes.
const MEASURED: Duration = Duration::from_millis(200);

/// The busiest processes: those that used the most reductions in the last moment.
pub fn busiest(system: &System) -> String {
    let before: HashMap<Pid, u64> = system.reductions().into_iter().collect();
    std::thread::sleep(MEASURED);
    let mut used: Vec<(Pid, u64)> = system
        .reductions()
        .into_iter()
        .map(|(pid, now)| {
            (
                pid,
                now.saturating_sub(before.get(&pid).copied().unwrap_or(0)),
            )
        })
        .collect();
    used.sort_by_key(|(_, reductions)| std::cmp::Reverse(*reductions));
    let title = format!(
        "{} processes, {} timers; the busiest in {MEASURED:?}:",
        used.len(),
        system.counters().timers
    );
    rows(system, &title, &used, true)
}

/// The processes that remain when the first one has ended.
pub fn left(system: &System) -> String {
    let mut used = system.reductions();
    used.sort_by_key(|(_, reductions)| std::cmp::Reverse(*reductions));
    let title = format!("the first process has ended; alive are {}:", used.len());
    rows(system, &title, &used, false)
}

/// A table of the first processes. `recent` says that the reductions are those of the last moment.
fn rows(system: &System, title: &str, used: &[(Pid, u64)], recent: bool) -> String {
    let mut text = format!(
        "{title}\n  {:<16} {:<20} {:<30} {:<10} {:>12} {:>10} {:>8}",
        "pid", "name", "function", "status", "reductions", "memory", "mailbox"
    );
    if recent {
        text += "          now";
    }
    for (pid, reductions) in used.iter().take(ROWS) {
        // A process that has ended in the meantime is left out.
        if let Some(info) = system.info(*pid) {
            text += "\n  ";
            row(&mut text, &info);
            if recent {
                // Writing to a string can't fail.
                let _ = write!(text, " {reductions:>12}");
            }
        }
    }
    if used.len() > ROWS {
        let _ = write!(text, "\n  … and {} more", used.len() - ROWS);
    }
    text
}

fn row(text: &mut String, info: &ProcessInfo) {
    let name = info
        .name
        .as_deref()
        .or(info.label.as_deref())
        .unwrap_or("-");
    let _ = write!(
        text,
        "{:<16} {:<20} {:<30} {:<10} {:>12} {:>9}K {:>8}",
        info.pid.to_string(),
        cut(&printable_name(name), 20),
        cut_front(&printable_name(&info.current_function), 30),
        info.status,
        info.reductions,
        info.memory_bytes >> 10,
        info.mailbox_events
    );
}

/// Cuts a text to this many characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Cuts a path in front, because its end says most.
fn cut_front(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    ['…']
        .into_iter()
        .chain(text.chars().skip(length + 1 - width))
        .collect()
}

/// The system's counters, the resources that it still holds, and what the first process's tree has used.
pub fn stats(system: &System, tree: Option<&TreeInfo>) -> String {
    let counters = system.counters();
    let held = system.holdings();
    let mut text = format!(
        "stats: {} processes spawned, {} left, {} crashed, {} reductions of ended processes, {} instances recycled",
        counters.spawned, held.processes, counters.crashed, counters.reductions, counters.recycled
    );
    let _ = write!(
        text,
        "\n  held: {} slots, {} names, {} groups, {} links, {} monitors, {} aliases, {} timers, {} WASI contexts",
        held.slots,
        held.names,
        held.groups,
        held.links,
        held.monitors,
        held.aliases,
        held.timers,
        held.contexts
    );
    let hibernation = counters.hibernation;
    if hibernation.is_off {
        text += "\n  hibernated: never, because the self-test of packing failed; the log says why";
    }
    if hibernation.packed > 0 {
        let now = hibernation.packed - hibernation.unpacked.min(hibernation.packed);
        let operations = hibernation.packed + hibernation.unpacked;
        let _ = write!(
            text,
            "\n  hibernated: {} times ({}), {} times without the memory, {now} now with {} bytes in all, {:.1} us each way",
            hibernation.packed,
            if hibernation.is_deep {
                "deep"
            } else {
                "shallow"
            },
            hibernation.in_part,
            hibernation.bytes,
            hibernation.nanoseconds as f64 / 1000.0 / operations as f64
        );
    }
    if let Some(tree) = tree {
        text += &budget(tree);
    }
    for (index, scheduler) in counters.schedulers.iter().enumerate() {
        let _ = write!(
            text,
            "\n  scheduler {index}: {} turns, {} steals, {} parks, {} timers fired",
            scheduler.turns, scheduler.steals, scheduler.parks, scheduler.timers_fired
        );
    }
    text
}

/// A tree's budget: what is spent of it, and what is left.
fn budget(tree: &TreeInfo) -> String {
    let part = |name: &str, spent: Spent| match spent.limit {
        Some(limit) => {
            let left = limit.saturating_sub(spent.used);
            format!("{} {name} spent and {left} left", spent.used)
        }
        None => format!("{} {name} spent", spent.used),
    };
    let mut text = format!(
        "\n  budget: {}, {}",
        part("reductions", tree.reductions),
        part("bytes of output", tree.output)
    );
    if let Some(thousandths) = tree.rate {
        let percent = f64::from(thousandths) / 10.0;
        let _ = write!(text, ", at most {percent}% of a core");
    }
    text
}
