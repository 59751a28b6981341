//! `names` and `groups`.

use super::memory::{Lists, put_empty_list, room, text};
use super::values::{put_case, put_is_some, put_pid, put_reference};
use super::{AGAIN_LISTS, DONE, Guest};
use crate::abi::layout::{
    self, join_error, monitored_group, option_pid, register_error, result_unit_join_error,
    result_unit_register_error,
};
use crate::engine::state::{PointerAt, survives};
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
        RegisterError::Taken => register_error::TAKEN,
        RegisterError::AlreadyNamed => register_error::ALREADY_NAMED,
        RegisterError::NoProc => register_error::NOPROC,
        RegisterError::BadName => register_error::BAD_NAME,
    });
    let layout = result_unit_register_error::LAYOUT;
    let room = room(&mut guest, result, layout, "register")?;
    put_outcome(room, result_unit_register_error::VALUE, error);
    Ok(DONE)
}

/// Writes `result<_, enum>`: whether there is an error, and which.
fn put_outcome(room: &mut [u8], error_at: usize, error: Option<u32>) {
    let case = match error {
        None => layout::result::OK,
        Some(_) => layout::result::ERROR,
    };
    put_case(room, 0, case);
    put_case(room, error_at, error.unwrap_or(0));
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
    let room = room(&mut guest, result, option_pid::LAYOUT, "whereis")?;
    put_is_some(room, 0, pid.is_some());
    if let Some(pid) = pid {
        put_pid(room, option_pid::VALUE, pid);
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
    let room = room(guest, result, layout::list::LAYOUT, function)?;
    put_empty_list(room, 0);
    let mut lists = Lists::default();
    lists.add_names(names, PointerAt::Address(result));
    lists.leave_all(guest)
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
        JoinError::NoProc => join_error::NOPROC,
        JoinError::BadName => join_error::BAD_NAME,
        JoinError::TooMany => join_error::TOO_MANY,
    });
    let room = room(&mut guest, result, result_unit_join_error::LAYOUT, "join")?;
    put_outcome(room, result_unit_join_error::VALUE, error);
    Ok(DONE)
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
    let members = guest.data().current.members(&group);
    let room = room(&mut guest, result, layout::list::LAYOUT, "members")?;
    put_empty_list(room, 0);
    let mut lists = Lists::default();
    lists.add_pids(&members, PointerAt::Address(result));
    lists.leave_all(&mut guest)
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
    let room = room(&mut guest, result, monitored_group::LAYOUT, "monitor")?;
    put_reference(room, monitored_group::MONITOR, monitor);
    put_empty_list(room, monitored_group::MEMBERS);
    let mut lists = Lists::default();
    let pointer_at = PointerAt::Address(result + monitored_group::MEMBERS as u32);
    lists.add_pids(&members, pointer_at);
    lists.leave_all(&mut guest)
}

pub(super) fn demonitor(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let monitor = Reference { node, id };
    let was_there = guest.data_mut().current.demonitor_group(monitor);
    Ok(i32::from(was_there))
}
