//! Reading and writing any number of bytes, in pieces. A piece neither blocks a scheduler for long nor makes the host copy all
//! bytes at once.
//!
//! The host gathers the guest's buffers into a piece, calls wasmtime-wasi's function for the piece, and scatters the bytes that
//! it has read over the buffers. POSIX allows short transfers: a transfer ends with the first short piece. wasmtime-wasi refuses
//! lists of buffers that are wrong.

use super::scratch::{self, BYTES_AT, RESULT_AT, Scratch};
use super::{Preview1, errno, upstream};
use crate::abi::BYTES_PER_REDUCTION;
use wasmtime::Result;
use wasmtime_wasi::p1::WasiP1Ctx;
use wiggle::GuestMemory;

/// The most bytes in a piece.
const PIECE_BYTES: usize = 256 << 10;
/// The most buffers in a call; the guest passes the rest in its next call. POSIX lets a host limit them, and names 1024.
const BUFFERS_MAX: usize = 1024;
/// The size of a buffer's address and length in the list of buffers.
const BUFFER_BYTES: usize = 8;
/// Preview 1's number for a regular file in `fdstat`.
const REGULAR_FILE: u8 = 4;

pub(super) async fn fd_read(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffers: i32,
    count: i32,
    result: i32,
) -> Result<i32> {
    let call = Call {
        fd,
        direction: Direction::Read,
        offset: None,
    };
    call.carry_out(process, memory, buffers, count, result)
        .await
}

pub(super) async fn fd_pread(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffers: i32,
    count: i32,
    offset: i64,
    result: i32,
) -> Result<i32> {
    let call = Call {
        fd,
        direction: Direction::Read,
        offset: Some(offset),
    };
    call.carry_out(process, memory, buffers, count, result)
        .await
}

pub(super) async fn fd_write(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffers: i32,
    count: i32,
    result: i32,
) -> Result<i32> {
    let call = Call {
        fd,
        direction: Direction::Write,
        offset: None,
    };
    call.carry_out(process, memory, buffers, count, result)
        .await
}

pub(super) async fn fd_pwrite(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffers: i32,
    count: i32,
    offset: i64,
    result: i32,
) -> Result<i32> {
    let call = Call {
        fd,
        direction: Direction::Write,
        offset: Some(offset),
    };
    call.carry_out(process, memory, buffers, count, result)
        .await
}

/// One of the four functions, with the guest's descriptor and offset.
#[derive(Clone, Copy)]
struct Call {
    fd: i32,
    direction: Direction,
    /// None for the descriptor's own position.
    offset: Option<i64>,
}

impl Call {
    /// Transfers in pieces. wasmtime-wasi gets a wrong list of buffers as it is and refuses it.
    async fn carry_out(
        self,
        process: &mut Preview1,
        memory: &mut GuestMemory<'_>,
        buffers: i32,
        count: i32,
        result: i32,
    ) -> Result<i32> {
        match Buffers::read(memory, buffers, count, result) {
            Some(buffers) => transfer(process, memory, self, buffers, result).await,
            None => {
                self.call_upstream(&mut process.wasi, memory, buffers, count, result)
                    .await
            }
        }
    }

    /// Calls wasmtime-wasi's function.
    async fn call_upstream(
        self,
        wasi: &mut WasiP1Ctx,
        memory: &mut GuestMemory<'_>,
        buffers: i32,
        count: i32,
        result: i32,
    ) -> Result<i32> {
        let fd = self.fd;
        match (self.direction, self.offset) {
            (Direction::Read, None) => {
                upstream::fd_read(wasi, memory, fd, buffers, count, result).await
            }
            (Direction::Read, Some(at)) => {
                upstream::fd_pread(wasi, memory, fd, buffers, count, at, result).await
            }
            (Direction::Write, None) => {
                upstream::fd_write(wasi, memory, fd, buffers, count, result).await
            }
            (Direction::Write, Some(at)) => {
                upstream::fd_pwrite(wasi, memory, fd, buffers, count, at, result).await
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// The guest's buffers, all of which lie in its memory.
struct Buffers {
    list: Vec<(i32, i32)>,
    bytes: usize,
    /// The number of listed buffers, including empty ones.
    listed: usize,
}

impl Buffers {
    /// Reads the list. Returns none if a part lies outside of the memory or at an unaligned address.
    fn read(
        memory: &mut GuestMemory<'_>,
        buffers: i32,
        count: i32,
        result: i32,
    ) -> Option<Buffers> {
        let is_aligned = |address: i32| address & 3 == 0;
        if !is_aligned(buffers) || !is_aligned(result) {
            return None;
        }
        scratch::part(memory, result, 4)?;
        let count = (count.cast_unsigned() as usize).min(BUFFERS_MAX);
        let list = scratch::part(memory, buffers, (count * BUFFER_BYTES) as i32)?;
        let list: Vec<(i32, i32)> = (list.as_chunks::<BUFFER_BYTES>().0.iter())
            .map(|[a, b, c, d, e, f, g, h]| {
                let address = i32::from_le_bytes([*a, *b, *c, *d]);
                (address, i32::from_le_bytes([*e, *f, *g, *h]))
            })
            .filter(|(_, length)| *length != 0)
            .collect();
        let mut bytes = 0;
        for (address, length) in &list {
            bytes += scratch::part(memory, *address, *length)?.len();
        }
        // The answer has 32 bits.
        let bytes = bytes.min(i32::MAX as usize);
        Some(Buffers {
            list,
            bytes,
            listed: count,
        })
    }

    /// Calls `copy` with the parts of the guest's memory that hold the next `count` bytes.
    fn each_part(
        &self,
        memory: &mut GuestMemory<'_>,
        mut from: usize,
        mut bytes: usize,
        mut copy: impl FnMut(&mut [u8]),
    ) {
        for (address, length) in &self.list {
            let length_bytes = length.cast_unsigned() as usize;
            if from >= length_bytes {
                from -= length_bytes;
                continue;
            }
            let part = scratch::part(memory, *address, *length);
            let part = part.expect("all buffers were seen to lie within the memory");
            let end = length_bytes.min(from + bytes);
            bytes -= end - from;
            copy(&mut part[from..end]);
            from = 0;
            if bytes == 0 {
                return;
            }
        }
    }
}

async fn transfer(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    call: Call,
    buffers: Buffers,
    result: i32,
) -> Result<i32> {
    let Call { fd, direction, .. } = call;
    process.cost += buffers.listed as u64 + buffers.bytes as u64 / BYTES_PER_REDUCTION;
    let mut done = 0;
    let mut is_regular = None;
    loop {
        let wanted = (buffers.bytes - done).min(PIECE_BYTES);
        if wanted == 0 && done > 0 {
            break;
        }
        if wanted == 0 && direction == Direction::Read {
            // A read of no bytes doesn't wait.
            let mut scratch = Scratch::of(0);
            let checked = file_type(process, &mut scratch, fd).await?;
            if let Err(errno) = checked {
                return Ok(errno);
            }
            break;
        }
        let (errno, moved) = piece(process, memory, call, &buffers, done, wanted).await?;
        if errno != errno::SUCCESS && done == 0 {
            return Ok(errno);
        }
        done += moved;
        if errno != errno::SUCCESS || moved < wanted || done == buffers.bytes {
            break;
        }
        // Only a regular file is sure to have more bytes at once. With another file, the next piece might wait and delay the
        // bytes that have come already.
        let is_file = match is_regular {
            Some(is_file) => is_file,
            None => {
                let ty = file_type(process, &mut Scratch::of(0), fd).await?;
                direction == Direction::Write || ty == Ok(REGULAR_FILE)
            }
        };
        is_regular = Some(is_file);
        if !is_file {
            break;
        }
    }
    let count_bytes = scratch::part(memory, result, 4);
    let count_bytes = count_bytes.expect("the result was seen to lie within the memory");
    count_bytes.copy_from_slice(&(done as u32).to_le_bytes());
    Ok(errno::SUCCESS)
}

/// Transfers one piece. Returns the error number and the number of bytes.
async fn piece(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    call: Call,
    buffers: &Buffers,
    done: usize,
    wanted: usize,
) -> Result<(i32, usize)> {
    // The scratch memory holds a list of one buffer, and the buffer.
    let mut scratch = Scratch::of(BUFFER_BYTES + wanted);
    let (list, bytes) = scratch.bytes().split_at_mut(BUFFER_BYTES);
    list[..4].copy_from_slice(&(BYTES_AT + BUFFER_BYTES as i32).to_le_bytes());
    list[4..].copy_from_slice(&(wanted as u32).to_le_bytes());
    if call.direction == Direction::Write {
        let mut at = 0;
        buffers.each_part(memory, done, wanted, |part| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        });
    }
    let occupied = process.special.occupy(call.fd).await;
    let offset = call.offset.map(|offset| offset.wrapping_add(done as i64));
    let lent = &mut scratch.memory();
    let errno = (Call { offset, ..call })
        .call_upstream(&mut process.wasi, lent, BYTES_AT, 1, RESULT_AT)
        .await?;
    if let Some(occupied) = occupied {
        occupied.release();
    }
    let moved = match errno {
        errno::SUCCESS => (scratch.result_u32(0) as usize).min(wanted),
        _ => 0,
    };
    if call.direction == Direction::Read {
        let bytes = &scratch.bytes()[BUFFER_BYTES..BUFFER_BYTES + moved];
        let mut at = 0;
        buffers.each_part(memory, done, moved, |part| {
            part.copy_from_slice(&bytes[at..at + part.len()]);
            at += part.len();
        });
    }
    Ok((errno, moved))
}

/// The type of a descriptor's file, as preview 1 numbers it; or the error number.
async fn file_type(
    process: &mut Preview1,
    scratch: &mut Scratch,
    fd: i32,
) -> Result<Result<u8, i32>> {
    let lent = &mut scratch.memory();
    let errno = upstream::fd_fdstat_get(&mut process.wasi, lent, fd, RESULT_AT).await?;
    Ok(match errno {
        errno::SUCCESS => Ok(scratch.result_u8(0)),
        errno => Err(errno),
    })
}
