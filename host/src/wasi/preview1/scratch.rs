//! A small memory of the host's own, for arguments and results of wasmtime-wasi's functions. With it the host can call them for
//! bytes that don't lie in the guest's memory.

use wiggle::GuestMemory;

/// The address of results. The arguments come after them.
pub(super) const RESULT_AT: i32 = 0;
pub(super) const RESULT_BYTES: usize = 64;
/// The address of the bytes that are passed.
pub(super) const BYTES_AT: i32 = RESULT_BYTES as i32;

/// The scratch memory.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// A memory with a result and these bytes.
    pub(super) fn with(bytes: &[u8]) -> Scratch {
        let mut scratch = Scratch::of(bytes.len());
        scratch.bytes().copy_from_slice(bytes);
        scratch
    }

    /// A memory with a result and this many bytes.
    pub(super) fn of(bytes: usize) -> Scratch {
        Scratch(vec![0; RESULT_BYTES + bytes])
    }

    pub(super) fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.0)
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[RESULT_BYTES..]
    }

    /// The number at this offset in the result.
    pub(super) fn result_u32(&self, offset: usize) -> u32 {
        let bytes = self.0[offset..].first_chunk().copied();
        u32::from_le_bytes(bytes.unwrap_or_default())
    }

    pub(super) fn result_u8(&self, offset: usize) -> u8 {
        self.0[offset]
    }
}

/// The guest's bytes. None if its memory is shared, but no module with a shared memory loads.
pub(super) fn bytes<'a>(memory: &'a mut GuestMemory<'_>) -> &'a mut [u8] {
    match memory {
        GuestMemory::Unshared(bytes) => bytes,
        GuestMemory::Shared(_) => &mut [],
    }
}

/// A part of the guest's bytes, if it lies in the memory.
pub(super) fn part<'a>(
    memory: &'a mut GuestMemory<'_>,
    start: i32,
    length: i32,
) -> Option<&'a mut [u8]> {
    let start = start.cast_unsigned() as usize;
    let end = start + length.cast_unsigned() as usize;
    bytes(memory).get_mut(start..end)
}
