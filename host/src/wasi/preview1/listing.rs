//! Directory listings. The host reads a listing once and keeps it with the descriptor until the guest reads it from the start
//! again, or closes the descriptor.
//!
//! A cookie is an index into that listing, so files that come or go meanwhile don't shift other files. The type and the number of
//! a file come from the listing itself: the host doesn't look at each file, which may be gone. A name that is not UTF-8 can't be
//! passed to a guest and is left out.

use super::scratch::{self, BYTES_AT, RESULT_AT, Scratch};
use super::{Preview1, errno, upstream};
use rustix::fs::{Dir, FileType};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use wasmtime::Result;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor;
use wiggle::GuestMemory;

/// The most bytes that the listings of one process may take together: some million names.
const LISTINGS_BYTES_MAX: usize = 64 << 20;
/// The size of an entry's header: the next cookie, the file's number, the name's length, the type, padding.
const HEAD_BYTES: usize = 24;
/// The flag of `path_open` that asks for a directory.
const OFLAGS_DIRECTORY: i32 = 2;
/// The right to read the directory.
const RIGHTS_READ: i64 = 1 << 1 | 1 << 14;

/// The listings of one process, by descriptor.
#[derive(Default)]
pub(super) struct Listings {
    by_fd: HashMap<i32, Listing>,
    bytes: usize,
}

/// The entries of a directory, as the host read them.
#[derive(Default)]
struct Listing {
    /// The entries as guests see them, one after the other. An entry's next cookie is its index plus 1.
    bytes: Vec<u8>,
    /// The offset of each entry.
    starts: Vec<u32>,
}

impl Listing {
    fn add(&mut self, name: &[u8], number: u64, ty: u8) {
        self.starts.push(self.bytes.len() as u32);
        let next = self.starts.len() as u64;
        self.bytes.extend_from_slice(&next.to_le_bytes());
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self.bytes
            .extend_from_slice(&(name.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&[ty, 0, 0, 0]);
        self.bytes.extend_from_slice(name);
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>()
    }

    /// The bytes of all entries from this index on.
    fn rest(&self, index: usize) -> &[u8] {
        match self.starts.get(index) {
            Some(start) => &self.bytes[*start as usize..],
            None => &[],
        }
    }
}

impl Listings {
    /// Drops a descriptor's listing, because the descriptor is closed or replaced.
    pub(super) fn forget(&mut self, fd: i32) {
        if let Some(listing) = self.by_fd.remove(&fd) {
            self.bytes -= listing.size();
        }
    }

    /// Keeps a listing. Returns false if the process's listings would be too large.
    fn keep(&mut self, fd: i32, listing: Listing) -> bool {
        self.forget(fd);
        if self.bytes + listing.size() > LISTINGS_BYTES_MAX {
            // The host could read another listing again, but an index into it might then mean another file.
            return false;
        }
        self.bytes += listing.size();
        self.by_fd.insert(fd, listing);
        true
    }
}

pub(super) async fn fd_readdir(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffer: i32,
    length: i32,
    cookie: i64,
    result: i32,
) -> Result<i32> {
    let is_whole = result & 3 == 0
        && scratch::part(memory, result, 4).is_some()
        && scratch::part(memory, buffer, length).is_some();
    if !is_whole {
        let wasi = &mut process.wasi;
        return upstream::fd_readdir(wasi, memory, fd, buffer, length, cookie, result).await;
    }
    if cookie == 0 || !process.listings.by_fd.contains_key(&fd) {
        let directory = match directory(process, fd).await? {
            Ok(directory) => directory,
            Err(errno) => return Ok(errno),
        };
        let read = tokio::task::spawn_blocking(move || read(&directory)).await;
        let listing = match read {
            Ok(Ok(listing)) => listing,
            Ok(Err(errno)) => return Ok(errno),
            Err(_) => return Ok(errno::EIO),
        };
        if !process.listings.keep(fd, listing) {
            return Ok(errno::ENOMEM);
        }
    }
    process.cost += length.cast_unsigned() as u64 / 64;
    let listing = &process.listings.by_fd[&fd];
    let rest = listing.rest(usize::try_from(cookie).unwrap_or(usize::MAX));
    let buffer = scratch::part(memory, buffer, length).unwrap_or_default();
    // The last entry may be cut. Then the buffer is full, and the guest asks for the entry again.
    let count = buffer.len().min(rest.len());
    buffer[..count].copy_from_slice(&rest[..count]);
    if let Some(buffer) = scratch::part(memory, result, 4) {
        buffer.copy_from_slice(&(count as u32).to_le_bytes());
    }
    Ok(errno::SUCCESS)
}

/// The directory of a descriptor, or the error number.
///
/// wasmtime-wasi doesn't expose it. So this function has wasmtime-wasi open `.` there, and takes the directory that its table
/// then has in addition.
async fn directory(process: &mut Preview1, fd: i32) -> Result<Result<Arc<File>, i32>> {
    let directories = |process: &mut Preview1| -> Vec<Arc<File>> {
        let table = process.wasi.ctx().table;
        let descriptors = table.iter_mut().filter_map(|entry| entry.downcast_ref());
        descriptors
            .filter_map(|descriptor| match descriptor {
                Descriptor::Dir(directory) => Some(directory.dir.clone()),
                Descriptor::File(_) => None,
            })
            .collect()
    };
    // A process gets its granted directories with its first call.
    let mut scratch = Scratch::with(b".");
    let lent = &mut scratch.memory();
    let errno = upstream::fd_fdstat_get(&mut process.wasi, lent, fd, RESULT_AT).await?;
    if errno != errno::SUCCESS {
        return Ok(Err(errno));
    }
    let address = |directory: &Arc<File>| Arc::as_ptr(directory).addr();
    let before: HashSet<usize> = directories(process).iter().map(address).collect();
    let errno = upstream::path_open(
        &mut process.wasi,
        &mut scratch.memory(),
        fd,
        0,
        BYTES_AT,
        1,
        OFLAGS_DIRECTORY,
        RIGHTS_READ,
        0,
        0,
        RESULT_AT,
    )
    .await?;
    if errno != errno::SUCCESS {
        return Ok(Err(errno));
    }
    let opened = scratch.result_u32(0).cast_signed();
    let mut after = directories(process).into_iter();
    let found = after.find(|directory| !before.contains(&address(directory)));
    upstream::fd_close(&mut process.wasi, &mut scratch.memory(), opened).await?;
    Ok(found.ok_or(errno::EIO))
}

/// Reads a directory, or returns the error number.
fn read(directory: &File) -> Result<Listing, i32> {
    let fails = |_error| errno::EIO;
    let device = rustix::fs::fstat(directory).map_err(fails)?.st_dev;
    let own = rustix::fs::fstat(directory).map_err(fails)?.st_ino;
    let mut listing = Listing::default();
    listing.add(b".", number(device, own), file_type(FileType::Directory));
    listing.add(b"..", number(device, own), file_type(FileType::Directory));
    for entry in Dir::read_from(directory).map_err(fails)? {
        let entry = entry.map_err(fails)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || std::str::from_utf8(name).is_err() {
            continue;
        }
        let ty = file_type(entry.file_type());
        listing.add(name, number(device, entry.ino()), ty);
        if listing.size() > LISTINGS_BYTES_MAX {
            return Err(errno::ENOMEM);
        }
    }
    Ok(listing)
}

/// A file's number as wasmtime-wasi's `filestat` computes it, so that a guest can compare files.
fn number(device: u64, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, inode).hash(&mut hasher);
    hasher.finish()
}

/// A file's type as preview 1 numbers it.
fn file_type(ty: FileType) -> u8 {
    match ty {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Socket => 6,
        FileType::Symlink => 7,
        _ => 0,
    }
}

const _: () = assert!(HEAD_BYTES == 8 + 8 + 4 + 4);
