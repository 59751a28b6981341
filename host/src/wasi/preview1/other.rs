//! The few functions that are of no kind: randomness, waiting, exits, and sockets that there are not.

use super::{Preview1, errno, scratch, theirs};
use wasmtime::{Result, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::random::random::Host as _;
use wasmtime_wasi::{I32Exit, WasiView};
use wiggle::GuestMemory;

/// Random bytes made at a stretch. At 1 to 2 ns each this is about a tenth of a millisecond of a scheduler thread.
const RANDOM_PIECE_BYTES: usize = 64 * 1024;

/// Fills a piece of the caller's memory with random bytes, giving up the thread every [`RANDOM_PIECE_BYTES`].
pub(super) async fn random_get(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    pointer: i32,
    length: i32,
) -> Result<i32> {
    let Some(room) = scratch::part(memory, pointer, length) else {
        return Err(Trap::MemoryOutOfBounds.into());
    };
    for (place, piece) in room.chunks_mut(RANDOM_PIECE_BYTES).enumerate() {
        if place > 0 {
            tokio::task::yield_now().await;
        }
        let random = process.wasi.ctx().ctx.random();
        for word in piece.chunks_mut(size_of::<u64>()) {
            word.copy_from_slice(&random.get_random_u64()?.to_le_bytes()[..word.len()]);
        }
    }
    Ok(errno::SUCCESS)
}

/// Waits for one of several things. Each takes two handles while it is waited for.
pub(super) async fn poll_oneoff(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    subscriptions: i32,
    events: i32,
    count: i32,
    result: i32,
) -> Result<i32> {
    let wanted = (count.cast_unsigned() as usize).saturating_mul(2);
    if process.handles().saturating_add(wanted) > process.handles_max {
        return Ok(errno::ENOMEM);
    }
    let wasi = &mut process.wasi;
    theirs::poll_oneoff(wasi, memory, subscriptions, events, count, result).await
}

/// `proc_exit`, with every code: wasmtime-wasi traps from 126 on.
pub(super) fn exit(code: u32) -> wasmtime::Error {
    I32Exit(code.cast_signed()).into()
}

// Neither does wasmtime-wasi carry these out, but it writes a line to the host's log at each call.

pub(super) fn sock_accept(
    _: &mut WasiP1Ctx,
    _: &mut GuestMemory<'_>,
    _: i32,
    _: i32,
    _: i32,
) -> Result<i32> {
    Ok(errno::ENOTSOCK)
}

#[expect(clippy::too_many_arguments, reason = "they are WASI's")]
pub(super) fn sock_recv(
    _: &mut WasiP1Ctx,
    _: &mut GuestMemory<'_>,
    _: i32,
    _: i32,
    _: i32,
    _: i32,
    _: i32,
    _: i32,
) -> Result<i32> {
    Ok(errno::ENOTSOCK)
}

pub(super) fn sock_send(
    _: &mut WasiP1Ctx,
    _: &mut GuestMemory<'_>,
    _: i32,
    _: i32,
    _: i32,
    _: i32,
    _: i32,
) -> Result<i32> {
    Ok(errno::ENOTSOCK)
}

pub(super) fn sock_shutdown(
    _: &mut WasiP1Ctx,
    _: &mut GuestMemory<'_>,
    _: i32,
    _: i32,
) -> Result<i32> {
    Ok(errno::ENOTSOCK)
}
