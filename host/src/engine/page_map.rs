//! Asks the kernel which pages of a range may hold anything but zeros.

use super::slots::{PAGE_BYTES, Region};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Bits of an entry: the page is resident, and the page is swapped out.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The size of an entry, which describes one page.
const ENTRY_BYTES: usize = 8;

/// The page map of this process (`proc_pid_pagemap(5)`). Unlike `mincore(2)` it shows swapped-out pages.
fn page_map() -> Option<&'static File> {
    static MAP: OnceLock<Option<File>> = OnceLock::new();
    MAP.get_or_init(|| File::open("/proc/self/pagemap").ok())
        .as_ref()
}

/// Lists the numbers of the region's pages that may hold anything but zeros, and returns true. If the kernel does not
/// describe a part of the region, lists all pages of that part and returns false.
pub(super) fn touched(region: Region, touched: &mut Vec<u32>) -> bool {
    touched.clear();
    let mut is_known = true;
    let pages = region.bytes / PAGE_BYTES;
    let mut entries = [0; 512 * ENTRY_BYTES];
    for first in (0..pages).step_by(512) {
        let entries = &mut entries[..ENTRY_BYTES * (pages - first).min(512)];
        let page = region.start.as_ptr() as usize / PAGE_BYTES + first;
        let known = page_map().is_some_and(|map| {
            map.read_exact_at(entries, (page * ENTRY_BYTES) as u64)
                .is_ok()
        });
        is_known &= known;
        for (index, entry) in entries.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
            if !known || u64::from_ne_bytes(*entry) & (PRESENT | SWAPPED) != 0 {
                touched.push((first + index) as u32);
            }
        }
    }
    is_known
}
