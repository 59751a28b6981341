//! Opening and closing. If a resource runs out, the guest gets an error, and a file that never answers holds up no other process.

use super::scratch::{self, BYTES_AT, RESULT_AT, Scratch};
use super::{Preview1, errno, upstream};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Result;
use wasmtime_wasi::ResourceTableError;
use wiggle::GuestMemory;

/// The most operations on FIFOs and devices under way at once, of all processes together. Each occupies a thread as long as it
/// takes, which may be for ever. There are twice as many threads, so files can always be read and written.
pub(in crate::wasi) const SPECIAL_MAX: usize = 512;

/// The offset of a file's type in `filestat`, and the types of regular files, directories and links.
const TYPE_AT: usize = 16;
const ORDINARY_TYPES: [u8; 3] = [3, 4, 7];

/// The process's descriptors of FIFOs and devices.
pub(super) struct Special {
    fds: HashSet<i32>,
    permits: Arc<Semaphore>,
}

/// A permit for an operation on a FIFO or device.
///
/// If the process ends before the operation does, the operation goes on in its thread. The host can't learn when it is over, so
/// the permit is lost.
pub(super) struct Occupied(Option<OwnedSemaphorePermit>);

impl Special {
    pub(super) fn new(permits: Arc<Semaphore>) -> Special {
        Special {
            fds: HashSet::new(),
            permits,
        }
    }

    /// Waits for a permit, if this descriptor needs one.
    pub(super) async fn occupy(&self, fd: i32) -> Option<Occupied> {
        match self.fds.contains(&fd) {
            true => Some(self.permit().await),
            false => None,
        }
    }

    async fn permit(&self) -> Occupied {
        Occupied(self.permits.clone().acquire_owned().await.ok())
    }
}

impl Occupied {
    /// Returns the permit, because the operation has ended.
    pub(super) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.forget();
        }
    }
}

pub(super) async fn fd_close(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    fd: i32,
) -> Result<i32> {
    process.listings.forget(fd);
    process.special.fds.remove(&fd);
    upstream::fd_close(&mut process.wasi, memory, fd).await
}

pub(super) async fn fd_renumber(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    from: i32,
    to: i32,
) -> Result<i32> {
    let errno = upstream::fd_renumber(&mut process.wasi, memory, from, to).await?;
    if errno == errno::SUCCESS && from != to {
        process.listings.forget(from);
        process.listings.forget(to);
        process.special.fds.remove(&to);
        if process.special.fds.remove(&from) {
            process.special.fds.insert(to);
        }
    }
    Ok(errno)
}

#[expect(clippy::too_many_arguments, reason = "they are WASI's")]
pub(super) async fn path_open(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    directory: i32,
    lookup: i32,
    path: i32,
    path_length: i32,
    flags: i32,
    rights: i64,
    inheriting: i64,
    fd_flags: i32,
    result: i32,
) -> Result<i32> {
    if process.handles() >= process.handles_max {
        return Ok(errno::EMFILE);
    }
    let is_special = match scratch::part(memory, path, path_length) {
        Some(path) => {
            let path = Scratch::with(path);
            is_special(process, path, directory, lookup, path_length).await?
        }
        None => false,
    };
    let occupied = match is_special {
        true => Some(process.special.permit().await),
        false => None,
    };
    let opened = upstream::path_open(
        &mut process.wasi,
        memory,
        directory,
        lookup,
        path,
        path_length,
        flags,
        rights,
        inheriting,
        fd_flags,
        result,
    )
    .await;
    if let Some(occupied) = occupied {
        occupied.release();
    }
    let errno = match opened {
        Err(error) if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) => {
            return Ok(errno::EMFILE);
        }
        opened => opened?,
    };
    if errno == errno::SUCCESS
        && is_special
        && let Some(fd) = scratch::part(memory, result, 4)
        && let Some(fd) = fd.first_chunk()
    {
        process.special.fds.insert(i32::from_le_bytes(*fd));
    }
    Ok(match errno {
        errno::EIO => descriptor_shortage().unwrap_or(errno),
        errno => errno,
    })
}

/// Does a file exist here that is neither regular nor a directory?
async fn is_special(
    process: &mut Preview1,
    mut path: Scratch,
    directory: i32,
    lookup: i32,
    path_length: i32,
) -> Result<bool> {
    let lent = &mut path.memory();
    let wasi = &mut process.wasi;
    let stat = upstream::path_filestat_get(
        wasi,
        lent,
        directory,
        lookup,
        BYTES_AT,
        path_length,
        RESULT_AT,
    );
    Ok(match stat.await {
        Ok(errno::SUCCESS) => !ORDINARY_TYPES.contains(&path.result_u8(TYPE_AT)),
        // The path is opened like an ordinary file and fails like one.
        Ok(_) => false,
        // This is a socket, for which preview 1 has no type.
        Err(_) => true,
    })
}

/// Has the host run out of descriptors? wasmtime-wasi reports that as another error.
fn descriptor_shortage() -> Option<i32> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    match rustix::fs::open("/", flags, rustix::fs::Mode::empty()) {
        Err(rustix::io::Errno::MFILE) => Some(errno::EMFILE),
        Err(rustix::io::Errno::NFILE) => Some(errno::ENFILE),
        _ => None,
    }
}

pub(super) async fn path_create_directory(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    directory: i32,
    path: i32,
    path_length: i32,
) -> Result<i32> {
    let length = without_slashes(memory, path, path_length);
    upstream::path_create_directory(&mut process.wasi, memory, directory, path, length).await
}

pub(super) async fn path_remove_directory(
    process: &mut Preview1,
    memory: &mut GuestMemory<'_>,
    directory: i32,
    path: i32,
    path_length: i32,
) -> Result<i32> {
    let length = without_slashes(memory, path, path_length);
    upstream::path_remove_directory(&mut process.wasi, memory, directory, path, length).await
}

/// The length of a path without slashes at its end. POSIX allows them for a directory, but wasmtime-wasi takes them for `.` in
/// it.
fn without_slashes(memory: &mut GuestMemory<'_>, path: i32, length: i32) -> i32 {
    let Some(bytes) = scratch::part(memory, path, length) else {
        return length;
    };
    let end = bytes.iter().rposition(|byte| *byte != b'/');
    end.map_or(length, |end| end as i32 + 1)
}
