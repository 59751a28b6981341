//! `names` and `groups`.

use super::memory::{EMPTY_LIST, Lists, room, text};
use super::values::put_id;
use super::{AGAIN_LISTS, DONE, Guest};
use crate::abi::layout::{MONITORED_GROUP_BYTES, OPTION_PID_BYTES, RESULT_ENUM_BYTES};
use crate::engine::state::PointerAt;
use crate::engine::state::survives;
use crate::process::{Pid, Reference};
use crate::system::RegisterError;
use crate::system::groups::JoinError;
use std::sync::Arc;
use std::task::Poll;
use wasmtime::Result;

pub(super) fn register(
    mut guest: Guest<'_>,
    name: u32,
    name_length: u32,
    node: u64,
    id: u64,
    result: u32,
) -> Result<i32> {
    let name = text(&mut guest, name, name_length, "register: the name")?.to_owned();
    let registered = guest.data_mut().current.register(&name, Pid { node, id });
    survives(&guest.data().current)?;
    let error = registered.err().map(|error| match error {
        RegisterError::Taken => 0,
        RegisterError::AlreadyNamed => 1,
        RegisterError::NoProc => 2,
        RegisterError::BadName => 3,
    });
    put_outcome(&mut guest, error, result, "register")
}

/// Writes `result<_, enum>`.
fn put_outcome(
    guest: &mut Guest<'_>,
    error: Option<u8>,
    result: u32,
    function: &str,
) -> Result<i32> {
    let room = room::<RESULT_ENUM_BYTES>(guest, result, function)?;
    *room = [u8::from(error.is_some()), error.unwrap_or(0)];
    Ok(DONE)
}

pub(super) fn unregister(mut guest: Guest<'_>, name: u32, name_length: u32) -> Result<i32> {
    let name = text(&mut guest, name, name_length, "unregister: the name")?.to_owned();
    Ok(i32::from(guest.data_mut().current.unregister(&name)))
}

pub(super) fn whereis(
    mut guest: Guest<'_>,
    name: u32,
    name_length: u32,
    result: u32,
) -> Result<i32> {
    let name = text(&mut guest, name, name_length, "whereis: the name")?.to_owned();
    let pid = guest.data_mut().current.whereis(&name);
    survives(&guest.data().current)?;
    let room = room::<OPTION_PID_BYTES>(&mut guest, result, "whereis")?;
    room[0] = u8::from(pid.is_some());
    if let Some(pid) = pid {
        put_id(room, 8, pid.node, pid.id);
    }
    Ok(DONE)
}

pub(super) fn registered(mut guest: Guest<'_>, result: u32) -> Result<i64> {
    let Poll::Ready(names) = guest.data_mut().current.registered() else {
        return Ok(AGAIN_LISTS);
    };
    survives(&guest.data().current)?;
    put_names(&mut guest, names, result, "registered")
}

/// Writes `list<string>`.
fn put_names(
    guest: &mut Guest<'_>,
    names: Vec<Arc<str>>,
    result: u32,
    function: &str,
) -> Result<i64> {
    room::<8>(guest, result, function)?.copy_from_slice(&EMPTY_LIST);
    let mut lists = Lists::default();
    lists.add_names(names, PointerAt::Address(result));
    lists.leave(guest)
}

pub(super) fn join(
    mut guest: Guest<'_>,
    group: u32,
    group_length: u32,
    node: u64,
    id: u64,
    result: u32,
) -> Result<i32> {
    let group = text(&mut guest, group, group_length, "join: the group")?.to_owned();
    let joined = guest.data_mut().current.join(&group, Pid { node, id });
    survives(&guest.data().current)?;
    let error = joined.err().map(|error| match error {
        JoinError::NoProc => 0,
        JoinError::BadName => 1,
        JoinError::TooMany => 2,
    });
    put_outcome(&mut guest, error, result, "join")
}

pub(super) fn leave(
    mut guest: Guest<'_>,
    group: u32,
    group_length: u32,
    node: u64,
    id: u64,
) -> Result<i32> {
    let group = text(&mut guest, group, group_length, "leave: the group")?.to_owned();
    let has_left = guest.data_mut().current.leave(&group, Pid { node, id });
    Ok(i32::from(has_left))
}

pub(super) fn members(
    mut guest: Guest<'_>,
    group: u32,
    group_length: u32,
    result: u32,
) -> Result<i64> {
    let group = text(&mut guest, group, group_length, "members: the group")?.to_owned();
    let members = guest.data().current.shared.members(&group);
    room::<8>(&mut guest, result, "members")?.copy_from_slice(&EMPTY_LIST);
    let mut lists = Lists::default();
    lists.add_pids(&members, PointerAt::Address(result));
    lists.leave(&mut guest)
}

pub(super) fn which_groups(mut guest: Guest<'_>, result: u32) -> Result<i64> {
    let Poll::Ready(groups) = guest.data_mut().current.which_groups() else {
        return Ok(AGAIN_LISTS);
    };
    put_names(&mut guest, groups, result, "which-groups")
}

pub(super) fn monitor(
    mut guest: Guest<'_>,
    group: u32,
    group_length: u32,
    result: u32,
) -> Result<i64> {
    let group = text(&mut guest, group, group_length, "monitor: the group")?.to_owned();
    let (monitor, members) = guest.data_mut().current.monitor_group(&group);
    survives(&guest.data().current)?;
    let room = room::<MONITORED_GROUP_BYTES>(&mut guest, result, "monitor")?;
    put_id(room, 0, monitor.node, monitor.id);
    room[16..24].copy_from_slice(&EMPTY_LIST);
    let mut lists = Lists::default();
    lists.add_pids(&members, PointerAt::Address(result + 16));
    lists.leave(&mut guest)
}

pub(super) fn demonitor(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let monitor = Reference { node, id };
    let was_there = guest.data_mut().current.demonitor_group(monitor);
    Ok(i32::from(was_there))
}
