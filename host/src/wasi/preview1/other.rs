//! Randomness, waiting, exits, and the socket functions that aren't implemented.

use super::{Preview1, errno, scratch, upstream};
use wasmtime::{Result, Trap};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::random::random::Host as _;
use wasmtime_wasi::{I32Exit, WasiView};
use wiggle::GuestMemory;

/// The random bytes made in one go. At 1 to 2 ns each, they take about a tenth of a millisecond of a scheduler thread.
const RANDOM_PIECE_BYTES: usize = 64 * 1024;

/// Fills a part of the caller's memory with random bytes. Gives up the thread every [`RANDOM_PIECE_BYTES`].
pub(super) async fn random_get(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    pointer: i32,
    length: i32,
) -> Result<i32> {
    let Some(buffer) = scratch::part(memory, pointer, length) else {
        return Err(Trap::MemoryOutOfBounds.into());
    };
    for (index, piece) in buffer.chunks_mut(RANDOM_PIECE_BYTES).enumerate() {
        if index > 0 {
            tokio::task::yield_now().await;
        }
        let random = process.wasi.ctx().ctx.random();
        for word in piece.chunks_mut(size_of::<u64>()) {
            word.copy_from_slice(&random.get_random_u64()?.to_le_bytes()[..word.len()]);
        }
    }
    Ok(errno::SUCCESS)
}

/// Waits for one of several events. Each takes two handles during the wait.
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
    upstream::poll_oneoff(wasi, memory, subscriptions, events, count, result).await
}

/// `proc_exit` for every code: wasmtime-wasi traps for codes from 126 on.
pub(super) fn exit(code: u32) -> wasmtime::Error {
    I32Exit(code.cast_signed()).into()
}

// wasmtime-wasi doesn't implement these either, but writes a line to the host's log at each call.

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
