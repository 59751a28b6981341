//! Pipes and FIFOs: reading a program's output, and synchronizing a test with a guest.

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::program::HANG;

/// A FIFO. Opening one side waits for the other side, so a test and a guest can wait for each other.
pub struct Fifo {
    path: PathBuf,
}

impl Fifo {
    /// Makes a FIFO at this path.
    pub fn new(path: impl Into<PathBuf>) -> Fifo {
        let path = path.into();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a FIFO can be made");
        Fifo { path }
    }

    /// The FIFO's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the program opens it for reading. Returns the side to write to.
    #[track_caller]
    pub fn until_read(&self) -> File {
        self.until_opened(true)
    }

    /// Waits until the program opens it for writing. Returns the side to read from.
    #[track_caller]
    pub fn until_written(&self) -> File {
        self.until_opened(false)
    }

    #[track_caller]
    fn until_opened(&self, writes: bool) -> File {
        let (tell, opened): (_, Receiver<io::Result<File>>) = channel();
        let path = self.path.clone();
        std::thread::spawn(move || {
            let side = File::options().read(!writes).write(writes).open(path);
            // If the other side came too late, the receiver is gone.
            let _ = tell.send(side);
        });
        match opened.recv_timeout(HANG) {
            Ok(side) => side.expect("the FIFO can be opened"),
            Err(_) => {
                // Opening both sides ends the thread.
                let _ = File::options().read(true).write(true).open(&self.path);
                panic!("the program never opens {}", self.path.display());
            }
        }
    }
}

/// A full pipe, whose reader doesn't read.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe can be made");
    let flags = fcntl_getfl(&writer).expect("a pipe has flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("they can be set");
    // Fill it page by page, then byte by byte: a page that doesn't fit may leave space for less.
    for part in [&[b'.'; 4096][..], b"."] {
        while writer.write(part).is_ok() {}
    }
    fcntl_setfl(&writer, flags).expect("they can be set");
    (reader, writer)
}

/// The bytes that a thread reads from a pipe.
#[derive(Clone, Default)]
pub(crate) struct Stream(Arc<(Mutex<Read>, Condvar)>);

#[derive(Default)]
pub(crate) struct Read {
    bytes: Vec<u8>,
    pub(crate) is_over: bool,
}

impl Read {
    pub(crate) fn has(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.bytes.windows(text.len()).any(|part| part == text)
    }
}

impl Stream {
    /// Reads until the end, or until it has this many bytes. Then the pipe is closed.
    pub(crate) fn read(pipe: impl io::Read + Send + 'static, bytes_max: usize) -> Stream {
        let stream = Stream::default();
        let shared = stream.clone();
        std::thread::spawn(move || {
            let mut pipe = pipe.take(bytes_max as u64);
            let mut part = [0; 1 << 16];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                shared.change(|read| read.bytes.extend_from_slice(&part[..count]));
            }
            drop(pipe);
            shared.change(|read| read.is_over = true);
        });
        stream
    }

    /// The stream of an output that goes elsewhere: there is nothing to read.
    pub(crate) fn none() -> Stream {
        let stream = Stream::default();
        stream.change(|read| read.is_over = true);
        stream
    }

    fn change(&self, change: impl FnOnce(&mut Read)) {
        let (read, changed) = &*self.0;
        change(&mut read.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// Waits until the condition holds. Returns false if it can never hold, or at the deadline.
    pub(crate) fn wait(&self, is_so: impl Fn(&Read) -> bool, deadline: Instant) -> bool {
        let (read, changed) = &*self.0;
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if is_so(&read) {
                return true;
            }
            if read.is_over || left.is_zero() {
                return false;
            }
            let waited = changed.wait_timeout(read, left);
            read = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn text(&self) -> String {
        let (read, _) = &*self.0;
        let read = read.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&read.bytes).into_owned()
    }
}
