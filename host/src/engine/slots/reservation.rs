//! The mapping that all slots are cut from: how much address space is reserved, and how.

use super::{GIB, MIB, PAGE_BYTES, stretch};
use std::ptr::NonNull;

/// Address space to reserve: enough for sixteen million small processes. It costs nothing until it is touched.
pub(super) const RESERVATION_BYTES: usize = 16 << 40;
/// The least that is worth going on with: some hundred small processes, and a large one.
const RESERVATION_BYTES_MIN: usize = 128 * MIB;
/// The least that has to be left for everything else.
const REST_BYTES_MIN: usize = 192 * MIB;
/// With less address space than this, it is worth saving where the heap would waste it.
const AMPLE_BYTES: usize = 8 * GIB;

/// Reserves as much as is wanted, or as there is, and returns how much. Address space may be limited (`ulimit -v`, `ulimit -d`), or
/// strictly accounted.
pub(super) fn reserve() -> std::io::Result<(NonNull<u8>, usize)> {
    let mut bytes = RESERVATION_BYTES;
    if let Some(left) = address_space_left() {
        // The other half is for everything else: threads, compiled code, the heap.
        while bytes > left / 2 && bytes > RESERVATION_BYTES_MIN {
            bytes /= 2;
        }
        if left < bytes + REST_BYTES_MIN {
            let text = format!(
                "{} MiB of address space are left, and at least {} MiB are needed; does `ulimit -v` or `ulimit -d` limit it?",
                left / MIB,
                (RESERVATION_BYTES_MIN + REST_BYTES_MIN) / MIB
            );
            return Err(std::io::Error::new(std::io::ErrorKind::OutOfMemory, text));
        }
        if left < AMPLE_BYTES {
            save_address_space();
        }
    }
    loop {
        match map(bytes) {
            Ok(base) => {
                if bytes < RESERVATION_BYTES {
                    tracing::info!(
                        "{} GiB of address space are reserved for processes: there is no more to be had",
                        bytes as f64 / GIB as f64
                    );
                }
                return Ok((base, bytes));
            }
            Err(error) if bytes <= RESERVATION_BYTES_MIN => {
                let text = format!(
                    "{} MiB of address space for processes were refused ({error}); does `ulimit -v` or `ulimit -d` limit it?",
                    bytes / MIB
                );
                return Err(std::io::Error::new(error.kind(), text));
            }
            Err(_) => bytes /= 2,
        }
    }
}

/// Keeps glibc's heap from reserving 64 MiB for each thread.
#[cfg(target_env = "gnu")]
fn save_address_space() {
    // SAFETY: the call sets a number of the heap's, under a lock of its own.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(not(target_env = "gnu"))]
fn save_address_space() {}

/// How much address space this program may still take, if that is limited.
fn address_space_left() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = |field| statm.split(' ').nth(field)?.parse::<usize>().ok();
    // The limit of data counts all that may be written, as the reservation may.
    [(libc::RLIMIT_AS, 0), (libc::RLIMIT_DATA, 5)]
        .into_iter()
        .filter_map(|(resource, field)| {
            let used = pages(field).unwrap_or(0) * PAGE_BYTES;
            Some(limit_of(resource)?.saturating_sub(used))
        })
        .min()
}

/// The limit of a resource of this program, if there is one.
fn limit_of(resource: libc::__rlimit_resource_t) -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes the limit to a variable of this function.
    let failed = unsafe { libc::getrlimit(resource, &mut limit) };
    let is_limited = failed == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    is_limited.then_some(limit.rlim_cur as usize)
}

/// Maps so many bytes, aligned to a stretch.
fn map(bytes: usize) -> std::io::Result<NonNull<u8>> {
    let more = bytes + stretch::BYTES;
    // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            more,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    let address = (mapped as usize).next_multiple_of(stretch::BYTES) as *mut libc::c_void;
    let before = address as usize - mapped as usize;
    // SAFETY: both ends were mapped just now, and nothing uses them.
    unsafe {
        if before > 0 {
            libc::munmap(mapped, before);
        }
        libc::munmap(address.byte_add(bytes), stretch::BYTES - before);
    }
    // SAFETY: the range was mapped just now, by this function.
    unsafe { forbid_huge_pages(address, bytes) };
    NonNull::new(address.cast()).ok_or_else(|| std::io::Error::other("mmap returned address 0"))
}

/// Keeps the kernel from using huge pages: one would make every small process resident with 2 MiB. If the call fails,
/// the kernel has no huge pages.
///
/// # Safety
///
/// The range is mapped, and the caller owns it.
pub(super) unsafe fn forbid_huge_pages(address: *mut libc::c_void, bytes: usize) {
    // SAFETY: the call changes nothing that the range holds.
    unsafe { libc::madvise(address, bytes, libc::MADV_NOHUGEPAGE) };
}
