//! Slots of packed processes, until their pages go back to the kernel, several slots at once.
//!
//! A call that gives pages back interrupts every core that runs this program, so one call does it for many slots. A
//! process that wakes before that finds its slot unchanged.

use super::{Home, Region, lock};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, Weak};

/// The number of slots whose pages go back together.
const AT_ONCE: usize = 32;
/// A queue for each thread that packs, up to so many.
const QUEUES: usize = 16;

#[derive(Default)]
pub(super) struct Releases([Mutex<Vec<Weak<Home>>>; QUEUES]);

impl Releases {
    /// Queues a slot. All of its pages will be given back soon.
    ///
    /// # Safety
    ///
    /// As for [`Home::release_soon`].
    pub(super) unsafe fn add(&self, home: &std::sync::Arc<Home>) {
        home.presence.queue();
        let mut queue = lock(&self.0[crate::engine::thread_number() % QUEUES]);
        queue.push(std::sync::Arc::downgrade(home));
        if queue.len() < AT_ONCE {
            return;
        }
        let queued = std::mem::replace(&mut *queue, Vec::with_capacity(AT_ONCE));
        drop(queue);
        let homes: Vec<_> = queued.iter().filter_map(Weak::upgrade).collect();
        let releasing: Vec<_> = homes
            .iter()
            .filter(|home| home.presence.begin_release())
            .collect();
        let regions = releasing.iter().map(|home| home.region()).collect();
        // SAFETY: the slots' processes are packed, and `take_back` makes each wait until this call is over before it
        // touches its slot again.
        unsafe { give_back_together(regions) };
        for home in releasing {
            home.presence.released();
            // SAFETY: the slot's pages have been given back. If its process wakes, `Home::wakes` makes it wait until
            // the stretch is usable again.
            unsafe { home.sleeps() };
        }
    }
}

/// Gives back the pages of whole slots.
///
/// # Safety
///
/// As for [`Region::give_back`], for each.
pub(super) unsafe fn give_back_together(mut slots: Vec<Region>) {
    slots.sort_by_key(|slot| slot.start);
    let mut regions: Vec<Region> = Vec::with_capacity(slots.len());
    for slot in slots {
        match regions.last_mut() {
            Some(last) if last.end() == slot.start.as_ptr() as usize => last.bytes += slot.bytes,
            _ => regions.push(slot),
        }
    }
    // SAFETY: the caller promises the same for each slot, and the regions cover the same pages.
    unsafe { give_back(&regions) };
}

/// Gives back the pages of all regions, in one call if the kernel can (Linux 6.13 and later).
///
/// # Safety
///
/// As for [`Region::give_back`], for each.
pub(super) unsafe fn give_back(regions: &[Region]) {
    if regions.is_empty() {
        return;
    }
    let ranges: Vec<libc::iovec> = regions
        .iter()
        .map(|region| libc::iovec {
            iov_base: region.start.as_ptr().cast(),
            iov_len: region.bytes,
        })
        .collect();
    let bytes: usize = regions.iter().map(|region| region.bytes).sum();
    // SAFETY: the ranges are within our mapping, and the caller owns them; the descriptor stands for this very process.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            this_process(),
            ranges.as_ptr(),
            ranges.len(),
            libc::MADV_DONTNEED,
            0,
        )
    };
    if done as usize != bytes {
        for region in regions {
            // SAFETY: the caller promises the same for each region.
            unsafe { region.give_back(region.range()) };
        }
    }
}

/// A descriptor of this process; -1 if the kernel gives none.
fn this_process() -> i32 {
    static DESCRIPTOR: AtomicI32 = AtomicI32::new(UNKNOWN);
    const UNKNOWN: i32 = -2;
    let known = DESCRIPTOR.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return known;
    }
    // SAFETY: the call only returns a descriptor.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) } as i32;
    let first = DESCRIPTOR.compare_exchange(UNKNOWN, opened, Ordering::Relaxed, Ordering::Relaxed);
    first.map_or_else(
        |other| {
            // SAFETY: this thread has just opened it, and has told no other of it.
            unsafe { libc::close(opened) };
            other
        },
        |_| opened,
    )
}
