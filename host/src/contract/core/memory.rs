//! Guest memory, as the contract's functions read and write it, and the lists that they leave there.
//!
//! A function that returns a list does not write it: the host keeps the list, with where its pointer belongs, and glue in
//! the module makes room by the guest's own `cabi_realloc` and takes it. Of lists that contain lists (texts in a list)
//! the host keeps one behind the other, and with each of them which one holds its pointer.

use super::super::functions;
use super::{Guest, NO_LISTS};
use crate::abi::{Layout, layout};
use crate::broken::{Rule, breaks};
use crate::engine::loan::Lender;
use crate::engine::state::{Exit, MoreLists, Pending, PendingBytes, PendingList, PointerAt, State};
use crate::process::{Budget, Payload, Pid};
use std::sync::Arc;
use wasmtime::{Result, bail};

/// Names are short. No process has a longer one, and the host does not copy it to find that out.
const NAME_BYTES_MAX: u32 = 4096;

/// An empty list. Its pointer may not be null; no guest reads or frees the memory that it points to.
const EMPTY_LIST: [u8; layout::list::BYTES] = [1, 0, 0, 0, 0, 0, 0, 0];

/// The guest's memory.
#[inline]
pub(super) fn memory<'a>(guest: &'a mut Guest<'_>) -> Result<&'a mut [u8]> {
    match guest.data().memory {
        Some(memory) => Ok(memory.data_mut(guest)),
        None => no_memory(),
    }
}

#[cold]
fn no_memory<T>() -> Result<T> {
    bail!("the module exports no memory")
}

/// A range of it.
#[inline]
fn part<'a>(data: &'a mut [u8], pointer: u32, length: u32, what: &str) -> Result<&'a mut [u8]> {
    let size = data.len();
    if breaks(Rule::LengthUnchecked) {
        return Ok(&mut data[pointer as usize..pointer as usize + length as usize]);
    }
    match data.get_mut(pointer as usize..pointer as usize + length as usize) {
        Some(part) => Ok(part),
        None => outside(what, pointer, length, size),
    }
}

#[cold]
fn outside<T>(what: &str, pointer: u32, length: u32, size: usize) -> Result<T> {
    bail!(
        "{what} (address {pointer:#x}, {length} bytes) lies outside of the memory ({size:#x} bytes)"
    )
}

/// A range of the guest's memory.
#[inline]
pub(super) fn slice<'a>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    length: u32,
    what: &str,
) -> Result<&'a mut [u8]> {
    part(memory(guest)?, pointer, length, what)
}

/// Room for a result of this layout.
#[inline]
pub(super) fn room<'a, const BYTES: usize, const ALIGNMENT: u32>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    layout: Layout<BYTES, ALIGNMENT>,
    function: &str,
) -> Result<&'a mut [u8; BYTES]> {
    Ok(room_and_state(guest, pointer, layout, function)?.0)
}

/// The same, and the state that the store holds for the process.
#[inline]
pub(super) fn room_and_state<'a, const BYTES: usize, const ALIGNMENT: u32>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    _layout: Layout<BYTES, ALIGNMENT>,
    function: &str,
) -> Result<(&'a mut [u8; BYTES], &'a mut State)> {
    if !pointer.is_multiple_of(ALIGNMENT) {
        bail!("{function}: the result's address {pointer:#x} is not aligned");
    }
    let Some(memory) = guest.data().memory else {
        return no_memory();
    };
    let (data, state) = memory.data_and_store_mut(guest);
    let room = part(data, pointer, BYTES as u32, function)?;
    let room = room
        .try_into()
        .expect("the slice has the length that was asked for");
    Ok((room, state))
}

#[inline]
pub(super) fn put_u32(room: &mut [u8], at: usize, value: u32) {
    room[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn put_u64(room: &mut [u8], at: usize, value: u64) {
    room[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Writes an empty list. If the host leaves a list whose pointer belongs here, glue overwrites this one.
#[inline]
pub(super) fn put_empty_list(room: &mut [u8], at: usize) {
    room[at..at + layout::list::BYTES].copy_from_slice(&EMPTY_LIST);
}

/// A name or a label, where it lies.
pub(super) fn text<'a>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    length: u32,
    what: &str,
) -> Result<&'a str> {
    let bytes = slice(guest, pointer, length, what)?;
    if length > NAME_BYTES_MAX {
        bail!("{what} has {length} bytes; the limit is {NAME_BYTES_MAX}");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if breaks(Rule::HostUnwraps) => panic!("{error}"),
        Err(_) => bail!("{what} is not UTF-8"),
    }
}

/// A payload that is to be sent, once its size has been compared with the limit.
#[inline]
pub(super) fn payload<'a>(
    guest: &'a mut Guest<'_>,
    pointer: u32,
    length: u32,
    what: &str,
) -> Result<&'a mut [u8]> {
    functions::check_message(&guest.data().current, length as usize)?;
    slice(guest, pointer, length, what)
}

/// The same, for a sender that gives up its turn meanwhile: the receiver copies from its memory.
#[cold]
pub(super) fn lent_payload(
    guest: &mut Guest<'_>,
    pointer: u32,
    length: u32,
    what: &str,
) -> Result<Payload> {
    functions::check_message(&guest.data().current, length as usize)?;
    let Some(memory) = guest.data().memory else {
        return no_memory();
    };
    let (data, state) = memory.data_and_store_mut(guest);
    let bytes = part(data, pointer, length, what)?;
    // SAFETY: the functions that send answer "again" as long as there is a lender, and the lender goes before the memory does.
    Ok(unsafe { Lender::lend(&mut state.lender, bytes) })
}

/// Leaves one list of bytes, whose pointer belongs at an address, and answers how much room it needs.
#[inline(always)]
pub(super) fn leave_bytes(
    guest: &mut Guest<'_>,
    bytes: PendingBytes,
    pointer_at: u32,
) -> Result<i64> {
    let count = bytes.len();
    if count == 0 {
        return Ok(NO_LISTS);
    }
    let Ok(count) = u32::try_from(count) else {
        return Err(Exit::exhausted(Budget::Message));
    };
    let next = PendingList {
        bytes,
        count,
        alignment: 1,
        pointer_at: PointerAt::Address(pointer_at),
    };
    leave_pending(guest, Pending { next, more: None })
}

#[inline(always)]
fn leave_pending(guest: &mut Guest<'_>, pending: Pending) -> Result<i64> {
    let answer = announce(&pending.next);
    let place = &mut guest.data_mut().pending;
    // Guest code runs between leaving and taking: its `cabi_realloc`, which may not call imports.
    if place.is_some() {
        bail!("cabi_realloc called an imported function that returns a list");
    }
    *place = Some(pending);
    Ok(answer)
}

/// The answer that tells the glue of a list: its size, and its alignment above that.
fn announce(list: &PendingList) -> i64 {
    i64::from(list.alignment) << 32 | list.bytes.len() as i64
}

/// Copies the first of the lists that are left to where the guest has made room for it, and writes its pointer and length
/// where they belong. Answers how much room the next list needs.
pub(super) fn take(mut guest: Guest<'_>, pointer: u32) -> Result<i64> {
    let Some(memory) = guest.data().memory else {
        return no_memory();
    };
    let (data, state) = memory.data_and_store_mut(&mut guest);
    let Some(Pending { next: list, more }) = &mut state.pending else {
        bail!("there is no list to take");
    };
    if !pointer.is_multiple_of(list.alignment) {
        bail!("cabi_realloc: the room it returned (address {pointer:#x}) is not aligned");
    }
    let length = list.bytes.len() as u32;
    let room = part(data, pointer, length, "cabi_realloc: the room it returned")?;
    list.bytes.copy_to(room);
    let pointer_at = match list.pointer_at {
        PointerAt::Address(address) => address,
        PointerAt::Within { list, offset } => {
            let taken = more.as_ref().and_then(|more| more.taken.get(list as usize));
            taken.map_or(u32::MAX, |start| start.saturating_add(offset))
        }
    };
    let header = part(data, pointer_at, layout::list::BYTES as u32, "the result")?;
    put_u32(header, layout::list::POINTER, pointer);
    put_u32(header, layout::list::LENGTH, list.count);

    let next = more.as_mut().and_then(|more| {
        more.taken.push(pointer);
        more.waiting.pop()
    });
    let Some(next) = next else {
        state.pending = None;
        return Ok(NO_LISTS);
    };
    *list = next;
    Ok(announce(list))
}

/// The lists of a result that has several, gathered while the result is written.
#[derive(Default)]
pub(super) struct Lists(Vec<PendingList>);

impl Lists {
    /// Adds a list of `count` elements. Returns its number, by which lists within it name it. An empty list is not left and
    /// has none: its place must hold an empty list already ([`put_empty_list`]).
    pub(super) fn add(
        &mut self,
        bytes: Vec<u8>,
        count: usize,
        alignment: u32,
        pointer_at: PointerAt,
    ) -> Option<u32> {
        self.push(
            PendingBytes::Bytes(bytes.into()),
            count,
            alignment,
            pointer_at,
        )
    }

    fn push(
        &mut self,
        bytes: PendingBytes,
        count: usize,
        alignment: u32,
        pointer_at: PointerAt,
    ) -> Option<u32> {
        if bytes.len() == 0 {
            return None;
        }
        self.0.push(PendingList {
            bytes,
            count: count as u32,
            alignment,
            pointer_at,
        });
        Some(self.0.len() as u32 - 1)
    }

    /// Adds a text.
    pub(super) fn add_text(&mut self, text: &str, pointer_at: PointerAt) {
        self.add(text.into(), text.len(), 1, pointer_at);
    }

    /// Adds a list of names.
    pub(super) fn add_names(&mut self, names: Vec<Arc<str>>, pointer_at: PointerAt) {
        let places = EMPTY_LIST.repeat(names.len());
        let list = self.add(places, names.len(), layout::list::ALIGNMENT, pointer_at);
        let Some(list) = list else { return };
        for (offset, name) in (0..).step_by(EMPTY_LIST.len()).zip(names) {
            let bytes = name.len();
            let pointer_at = PointerAt::Within { list, offset };
            self.push(PendingBytes::Name(name), bytes, 1, pointer_at);
        }
    }

    /// Adds a list of pids.
    pub(super) fn add_pids(&mut self, pids: &[Pid], pointer_at: PointerAt) {
        let mut bytes = vec![0; pids.len() * layout::pid::BYTES];
        for (room, pid) in bytes.chunks_exact_mut(layout::pid::BYTES).zip(pids) {
            put_u64(room, layout::pid::NODE, pid.node);
            put_u64(room, layout::pid::ID, pid.id);
        }
        self.add(bytes, pids.len(), layout::pid::ALIGNMENT, pointer_at);
    }

    /// Leaves them all with the host, and answers how much room the first one needs.
    pub(super) fn leave_all(self, guest: &mut Guest<'_>) -> Result<i64> {
        let bytes: usize = self.0.iter().map(|list| list.bytes.len()).sum();
        if u32::try_from(bytes).is_err() {
            return Err(Exit::exhausted(Budget::Message));
        }
        guest.data_mut().current.charge_copy(bytes);
        let mut waiting = self.0;
        waiting.reverse();
        let Some(next) = waiting.pop() else {
            return Ok(NO_LISTS);
        };
        let more = Box::new(MoreLists {
            waiting,
            taken: Vec::new(),
        });
        leave_pending(
            guest,
            Pending {
                next,
                more: Some(more),
            },
        )
    }
}
