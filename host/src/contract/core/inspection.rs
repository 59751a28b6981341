//! `inspection` and `debugging`. Programs that are not granted them are not loaded; these functions need not ask.

use super::memory::{Lists, put_empty_list, put_u64, room};
use super::values::{priority_case, put_case, put_destination, put_is_some, put_pid};
use super::{AGAIN, AGAIN_LISTS, DONE, Guest, NO_LISTS};
use crate::abi::layout::{
    self, option_pid, option_process_info, option_string, option_tree_info, option_u32, option_u64,
    process_info, spent, system_counters, tree_info,
};
use crate::engine::state::{PointerAt, survives};
use crate::process::{Destination, Pid};
use crate::system::{ProcessInfo, Status, TreeInfo};
use std::task::Poll;
use wasmtime::Result;

pub(super) fn processes(mut guest: Guest<'_>, result: u32) -> Result<i64> {
    let processes = guest.data().current.shared.processes();
    survives(&guest.data().current)?;
    let room = room(&mut guest, result, layout::list::LAYOUT, "processes")?;
    put_empty_list(room, 0);
    let mut lists = Lists::default();
    lists.add_pids(&processes, PointerAt::Address(result));
    lists.leave_all(&mut guest)
}

pub(super) fn info(mut guest: Guest<'_>, node: u64, id: u64, result: u32) -> Result<i64> {
    let info = guest.data_mut().current.info(Pid { node, id });
    survives(&guest.data().current)?;
    let Poll::Ready(info) = info else {
        return Ok(AGAIN_LISTS);
    };
    let room = room(&mut guest, result, option_process_info::LAYOUT, "info")?;
    put_is_some(room, 0, info.is_some());
    let Some(info) = info else {
        return Ok(NO_LISTS);
    };
    const VALUE: usize = option_process_info::VALUE;
    let lists = put_info(&mut room[VALUE..], info, result + VALUE as u32);
    lists.leave_all(&mut guest)
}

/// Writes a process-info whose place in guest memory is `start`.
fn put_info(room: &mut [u8], info: ProcessInfo, start: u32) -> Lists {
    put_facts(room, &info);
    let mut lists = Lists::default();
    put_texts(room, &info, start, &mut lists);
    put_ties(room, info, start, &mut lists);
    lists
}

/// Writes the part of a process-info that has no lists.
fn put_facts(room: &mut [u8], info: &ProcessInfo) {
    put_case(room, process_info::STATUS, status_case(info.status));
    put_case(room, process_info::PRIORITY, priority_case(info.priority));
    room[process_info::TRAP_EXIT] = u8::from(info.traps_exits);
    room[process_info::HIBERNATES] = u8::from(info.hibernates);
    let age_ns = u64::try_from(info.age.as_nanos()).unwrap_or(u64::MAX);
    for (at, number) in [
        (process_info::REDUCTIONS, info.reductions),
        (process_info::MEMORY_BYTES, info.memory_bytes),
        (process_info::MAILBOX_EVENTS, info.mailbox_events),
        (process_info::MAILBOX_BYTES, info.mailbox_bytes),
        (process_info::MAILBOX_DROPPED, info.mailbox_dropped),
        (process_info::TIMERS, info.timers as u64),
        (process_info::AGE, age_ns),
    ] {
        put_u64(room, at, number);
    }
    put_is_some(room, process_info::PARENT, info.parent.is_some());
    if let Some(parent) = info.parent {
        put_pid(room, process_info::PARENT + option_pid::VALUE, parent);
    }
    put_tree(room, info.tree.as_ref());
}

/// Writes the tree in a process-info.
fn put_tree(room: &mut [u8], tree: Option<&TreeInfo>) {
    put_is_some(room, process_info::TREE, tree.is_some());
    let Some(tree) = tree else { return };
    let room = &mut room[process_info::TREE + option_tree_info::VALUE..];
    put_pid(room, tree_info::ROOT, tree.root);
    for (at, part) in [
        (tree_info::MEMORY, tree.memory),
        (tree_info::PROCESSES, tree.processes),
        (tree_info::REDUCTIONS, tree.reductions),
        (tree_info::OUTPUT, tree.output),
    ] {
        put_u64(room, at + spent::USED, part.used);
        put_is_some(room, at + spent::LIMIT, part.limit.is_some());
        let limit_at = at + spent::LIMIT + option_u64::VALUE;
        put_u64(room, limit_at, part.limit.unwrap_or_default());
    }
    put_is_some(room, tree_info::RATE, tree.rate.is_some());
    let rate_at = tree_info::RATE + option_u32::VALUE;
    room[rate_at..rate_at + 4].copy_from_slice(&tree.rate.unwrap_or_default().to_le_bytes());
    put_u64(room, tree_info::WAITING, tree.waiting);
}

/// The number of a status's case.
fn status_case(status: Status) -> u32 {
    match status {
        Status::Running => layout::status::RUNNING,
        Status::Runnable => layout::status::RUNNABLE,
        Status::Waiting => layout::status::WAITING,
        Status::WaitingForHost => layout::status::WAITING_FOR_HOST,
        Status::Suspended => layout::status::SUSPENDED,
        Status::Exiting => layout::status::EXITING,
        Status::Host => layout::status::HOST,
    }
}

/// Writes the names in a process-info, and its label.
fn put_texts(room: &mut [u8], info: &ProcessInfo, start: u32, lists: &mut Lists) {
    let address = |at: usize| PointerAt::Address(start + at as u32);
    for (at, text) in [
        (process_info::NAME, &info.name),
        (process_info::LABEL, &info.label),
    ] {
        let value_at = at + option_string::VALUE;
        put_is_some(room, at, text.is_some());
        put_empty_list(room, value_at);
        if let Some(text) = text {
            lists.add_text(text, address(value_at));
        }
    }
    for (at, text) in [
        (process_info::PROGRAM, &info.program),
        (process_info::FUNCTION, &info.function),
        (process_info::CURRENT_FUNCTION, &info.current_function),
    ] {
        put_empty_list(room, at);
        lists.add_text(text, address(at));
    }
}

/// Writes the links and monitors in a process-info.
fn put_ties(room: &mut [u8], info: ProcessInfo, start: u32, lists: &mut Lists) {
    use crate::abi::layout::process_info::{LINKS, MONITORED_BY, MONITORS};
    let address = |at: usize| PointerAt::Address(start + at as u32);
    for at in [LINKS, MONITORS, MONITORED_BY] {
        put_empty_list(room, at);
    }
    lists.add_pids(&info.links, address(LINKS));
    add_destinations(lists, info.monitors, address(MONITORS));
    lists.add_pids(&info.monitored_by, address(MONITORED_BY));
}

/// Adds a list of destinations, and their names.
fn add_destinations(lists: &mut Lists, targets: Vec<Destination>, pointer_at: PointerAt) {
    use crate::abi::layout::destination::{ALIGNMENT, BYTES};
    let count = targets.len();
    let mut destinations = vec![0; count * BYTES];
    let mut names = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        names.extend(put_destination(&mut destinations, index * BYTES, target));
    }
    if let Some(list) = lists.add(destinations, count, ALIGNMENT, pointer_at) {
        for (bytes, offset) in names {
            let bytes = bytes.into_vec();
            let length = bytes.len();
            lists.add(bytes, length, 1, PointerAt::Within { list, offset });
        }
    }
}

pub(super) fn counters(mut guest: Guest<'_>, result: u32) -> Result<i32> {
    let counters = guest.data().current.shared.counters();
    let room = room(&mut guest, result, system_counters::LAYOUT, "counters")?;
    for (at, number) in [
        (system_counters::PROCESSES, counters.processes.into()),
        (system_counters::SPAWNED, counters.spawned),
        (system_counters::CRASHED, counters.crashed),
        (system_counters::REDUCTIONS, counters.reductions),
        (system_counters::NAMES, counters.names as u64),
        (system_counters::GROUPS, counters.groups as u64),
        (system_counters::TIMERS, counters.timers as u64),
    ] {
        put_u64(room, at, number);
    }
    Ok(DONE)
}

pub(super) fn suspend(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let suspended = guest.data_mut().current.suspend(Pid { node, id });
    survives(&guest.data().current)?;
    match suspended {
        Poll::Ready(is_suspended) => Ok(i32::from(is_suspended)),
        Poll::Pending => Ok(AGAIN),
    }
}

pub(super) fn resume(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let is_resumed = guest.data_mut().current.resume(Pid { node, id });
    Ok(i32::from(is_resumed))
}
