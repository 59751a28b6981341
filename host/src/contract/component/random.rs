//! WASI's random bytes for components, as functions for which the process pays.
//!
//! wasmtime-wasi makes all bytes of a call in one go, for nothing. A component that asks for a megabyte again and again would hold
//! up its scheduler for seconds of each slice. So these two functions replace wasmtime-wasi's: they make the bytes in pieces, and
//! the process gives up its turn when it owes one.

use super::guard::guarded;
use crate::engine::state::State;
use wasmtime::component::Linker;
use wasmtime::{Result, StoreContextMut, bail};

/// The functions: both give bytes that may be used for secrets.
const FUNCTIONS: [(&str, &str); 2] = [
    ("wasi:random/random@0.2.12", "get-random-bytes"),
    ("wasi:random/insecure@0.2.12", "get-insecure-random-bytes"),
];
/// The most bytes of a call: the host holds them all.
const BYTES_MAX: u64 = 1 << 20;
/// Bytes that are made between two looks at what the process owes: some ten microseconds.
const PIECE_BYTES: usize = 16 << 10;

/// Replaces the functions of wasmtime-wasi, which has been linked before.
pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    for (interface, name) in FUNCTIONS {
        linker
            .instance(interface)?
            .func_wrap_async(name, |store, (length,): (u64,)| {
                Box::new(async move { Ok((random_bytes(store, length).await?,)) })
            })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

async fn random_bytes(mut store: StoreContextMut<'_, State>, length: u64) -> Result<Vec<u8>> {
    if length > BYTES_MAX {
        bail!("{length} random bytes are more than the {BYTES_MAX} of a call");
    }
    let mut bytes = vec![0; length as usize];
    for piece in bytes.chunks_mut(PIECE_BYTES) {
        guarded(store.data_mut()).begin_with(piece.len()).await?;
        store.data().fill_random(piece);
    }
    Ok(bytes)
}
