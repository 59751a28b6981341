//! A small memory of the host's own, in which wasmtime-wasi's functions find their arguments and leave their results: so they
//! can be called for other bytes than the guest's own memory holds.

use wiggle::GuestMemory;

/// Where results are left. The arguments lie behind.
pub(super) const RESULT_AT: i32 = 0;
pub(super) const RESULT_BYTES: usize = 64;
/// Where the bytes lie that are handed over.
pub(super) const BYTES_AT: i32 = RESULT_BYTES as i32;

/// Such a memory.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// With room for a result, and these bytes.
    pub(super) fn with(bytes: &[u8]) -> Scratch {
        let mut scratch = Scratch::of(bytes.len());
        scratch.bytes().copy_from_slice(bytes);
        scratch
    }

    /// With room for a result, and so many bytes.
    pub(super) fn of(bytes: usize) -> Scratch {
        Scratch(vec![0; RESULT_BYTES + bytes])
    }

    pub(super) fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.0)
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0[RESULT_BYTES..]
    }

    /// A number that was left so far behind the beginning of the result.
    pub(super) fn result_u32(&self, offset: usize) -> u32 {
        let bytes = self.0[offset..].first_chunk().copied();
        u32::from_le_bytes(bytes.unwrap_or_default())
    }

    pub(super) fn result_u8(&self, offset: usize) -> u8 {
        self.0[offset]
    }
}

/// The guest's bytes; none if its memory is shared, which no module that loads has.
pub(super) fn bytes<'a>(memory: &'a mut GuestMemory<'_>) -> &'a mut [u8] {
    match memory {
        GuestMemory::Unshared(bytes) => bytes,
        GuestMemory::Shared(_) => &mut [],
    }
}

/// A part of the guest's bytes, if it lies within.
pub(super) fn part<'a>(
    memory: &'a mut GuestMemory<'_>,
    start: i32,
    length: i32,
) -> Option<&'a mut [u8]> {
    let start = start.cast_unsigned() as usize;
    let end = start + length.cast_unsigned() as usize;
    bytes(memory).get_mut(start..end)
}
