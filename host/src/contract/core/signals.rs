//! `signals`.

use super::memory::room;
use super::values::{destination, put_reference, reason, truth};
use super::{AGAIN, DONE, Guest};
use crate::abi::layout;
use crate::engine::state::survives;
use crate::process::{Pid, Reference};
use std::task::Poll;
use wasmtime::Result;

pub(super) fn exit_process(
    mut guest: Guest<'_>,
    node: u64,
    id: u64,
    case: u32,
    first: u32,
    second: u32,
) -> Result<i32> {
    let reason = reason(&mut guest, case, first, second, "exit-process")?;
    guest
        .data_mut()
        .current
        .exit_process(Pid { node, id }, reason);
    survives(&guest.data().current)?;
    Ok(DONE)
}

pub(super) fn kill_tree(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let killed = guest.data_mut().current.kill_tree(Pid { node, id });
    survives(&guest.data().current)?;
    match killed {
        Poll::Ready(was_there) => Ok(i32::from(was_there)),
        Poll::Pending => Ok(AGAIN),
    }
}

pub(super) fn trap_exit(mut guest: Guest<'_>, trap: u32) -> Result<i32> {
    let trap = truth(trap, "trap-exit")?;
    Ok(i32::from(guest.data_mut().current.trap_exits(trap)))
}

pub(super) fn link(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    let linked = guest.data_mut().current.link(Pid { node, id });
    survives(&guest.data().current)?;
    match linked {
        Poll::Ready(()) => Ok(DONE),
        Poll::Pending => Ok(AGAIN),
    }
}

pub(super) fn unlink(mut guest: Guest<'_>, node: u64, id: u64) -> Result<i32> {
    guest.data_mut().current.unlink(Pid { node, id });
    Ok(DONE)
}

pub(super) fn monitor(
    mut guest: Guest<'_>,
    case: u32,
    first: u64,
    second: u64,
    result: u32,
) -> Result<i32> {
    let target = destination(&mut guest, case, first, second, "monitor")?;
    let monitored = guest.data_mut().current.monitor(&target);
    survives(&guest.data().current)?;
    let Poll::Ready(monitor) = monitored else {
        return Ok(AGAIN);
    };
    let room = room(&mut guest, result, layout::reference::LAYOUT, "monitor")?;
    put_reference(room, 0, monitor);
    Ok(DONE)
}

pub(super) fn demonitor(mut guest: Guest<'_>, node: u64, id: u64, flush: u32) -> Result<i32> {
    let flush = truth(flush, "demonitor")?;
    let monitor = Reference { node, id };
    let was_there = guest.data_mut().current.demonitor(monitor, flush);
    Ok(i32::from(was_there))
}
