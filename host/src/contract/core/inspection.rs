//! `inspection` and `debugging`. Programs that are not granted them are not loaded; these functions need not ask.

use super::memory::{EMPTY_LIST, Lists, room};
use super::values::{priority_case, put_destination, put_id, put_u64};
use super::{AGAIN, AGAIN_LISTS, DONE, Guest, NO_LISTS};
use crate::abi::layout::{COUNTERS_BYTES, DESTINATION_BYTES, OPTION_INFO_BYTES};
use crate::engine::state::PointerAt;
use crate::engine::state::survives;
use crate::process::{Destination, Pid};
use crate::system::{ProcessInfo, Status};
use std::task::Poll;
use wasmtime::Result;

pub(super) fn processes(mut guest: Guest<'_>, result: u32) -> Result<i64> {
    let processes = guest.data().current.shared.processes();
    survives(&guest.data().current)?;
    room::<8>(&mut guest, result, "processes")?.copy_from_slice(&EMPTY_LIST);
    let mut lists = Lists::default();
    lists.add_pids(&processes, PointerAt::Address(result));
    lists.leave(&mut guest)
}

pub(super) fn info(mut guest: Guest<'_>, node: u64, id: u64, result: u32) -> Result<i64> {
    let info = guest.data_mut().current.info(Pid { node, id });
    survives(&guest.data().current)?;
    let Poll::Ready(info) = info else {
        return Ok(AGAIN_LISTS);
    };
    let room = room::<OPTION_INFO_BYTES>(&mut guest, result, "info")?;
    room[0] = u8::from(info.is_some());
    let Some(info) = info else {
        return Ok(NO_LISTS);
    };
    let lists = put_info(&mut room[8..], info, result + 8);
    lists.leave(&mut guest)
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
    room[0] = status_case(info.status);
    room[1] = priority_case(info.priority);
    room[2] = u8::from(info.traps_exits);
    room[3] = u8::from(info.hibernates);
    let age_ns = u64::try_from(info.age.as_nanos()).unwrap_or(u64::MAX);
    let numbers = [
        info.reductions,
        info.memory_bytes,
        info.mailbox_events,
        info.mailbox_bytes,
        info.timers as u64,
        age_ns,
    ];
    for (offset, number) in (8..).step_by(8).zip(numbers) {
        put_u64(room, offset, number);
    }
    room[56] = u8::from(info.parent.is_some());
    if let Some(parent) = info.parent {
        put_id(room, 64, parent.node, parent.id);
    }
}

/// `status`'s case.
fn status_case(status: Status) -> u8 {
    match status {
        Status::Running => 0,
        Status::Runnable => 1,
        Status::Waiting => 2,
        Status::WaitingForHost => 3,
        Status::Suspended => 4,
        Status::Exiting => 5,
        Status::Host => 6,
    }
}

/// Writes the names in a process-info, and its label.
fn put_texts(room: &mut [u8], info: &ProcessInfo, start: u32, lists: &mut Lists) {
    let at = |offset: u32| PointerAt::Address(start + offset);
    for (offset, text) in [(80, &info.name), (92, &info.label)] {
        room[offset] = u8::from(text.is_some());
        room[offset + 4..offset + 12].copy_from_slice(&EMPTY_LIST);
        if let Some(text) = text {
            lists.add_text(text, at(offset as u32 + 4));
        }
    }
    let texts = [
        (104, &info.program),
        (112, &info.function),
        (120, &info.current_function),
    ];
    for (offset, text) in texts {
        room[offset..offset + 8].copy_from_slice(&EMPTY_LIST);
        lists.add_text(text, at(offset as u32));
    }
}

/// Writes the links and monitors in a process-info.
fn put_ties(room: &mut [u8], info: ProcessInfo, start: u32, lists: &mut Lists) {
    let at = |offset: u32| PointerAt::Address(start + offset);
    for offset in [128, 136, 144] {
        room[offset..offset + 8].copy_from_slice(&EMPTY_LIST);
    }
    lists.add_pids(&info.links, at(128));
    add_destinations(lists, info.monitors, at(136));
    lists.add_pids(&info.monitored_by, at(144));
}

/// Adds a list of destinations, and their names.
fn add_destinations(lists: &mut Lists, targets: Vec<Destination>, pointer_at: PointerAt) {
    let count = targets.len();
    let mut destinations = vec![0; count * DESTINATION_BYTES];
    let mut names = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        names.extend(put_destination(
            &mut destinations,
            index * DESTINATION_BYTES,
            target,
        ));
    }
    if let Some(list) = lists.add(destinations, count, 8, pointer_at) {
        for (bytes, offset) in names {
            let bytes = bytes.into_vec();
            let length = bytes.len();
            lists.add(bytes, length, 1, PointerAt::Within { list, offset });
        }
    }
}

pub(super) fn counters(mut guest: Guest<'_>, result: u32) -> Result<i32> {
    let counters = guest.data().current.shared.counters();
    let room = room::<COUNTERS_BYTES>(&mut guest, result, "counters")?;
    let numbers = [
        counters.processes.into(),
        counters.spawned,
        counters.crashed,
        counters.reductions,
        counters.names as u64,
        counters.groups as u64,
        counters.timers as u64,
    ];
    for (offset, number) in (0..).step_by(8).zip(numbers) {
        put_u64(room, offset, number);
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
