//! The thread that writes a system's output, and its queue.
//!
//! The thread takes chunks from the queue, joins those for the same destination, writes them, and releases their space. No other
//! thread blocks on a destination.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// The most bytes written in one go. Many short lines cost one system call.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// The wait before the next attempt, if a destination is full and some other program has made it non-blocking.
const WOULD_BLOCK_WAIT: Duration = Duration::from_millis(1);

/// Unfinished lines are shown when nothing has come for this time. A guest that writes a line in pieces takes less, so its line
/// comes whole.
const QUIET: Duration = Duration::from_millis(20);

/// The longest time that an unfinished line waits for its rest while other processes write. After that, the line is shown in two
/// parts.
const UNFINISHED_WAIT_MAX: Duration = Duration::from_secs(1);

/// The error number for a destination that fails without one.
const EIO: i32 = 5;

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// The state that the thread and the processes share.
pub(super) struct Shared {
    /// The bytes that may still be queued. Closed when the thread is gone.
    pub(super) space: Semaphore,
    /// The bytes that are queued without reserved space.
    pub(super) overdraft_bytes: AtomicUsize,
    /// The number of chunks that not even the overdraft had space for, since the last notice.
    pub(super) lost_count: AtomicUsize,
    /// The error number by which each destination failed; 0 while it is open.
    pub(super) closed: [AtomicI32; 2],
}

/// A holder of unfinished lines, which passes them on when the thread asks.
pub(super) trait Unfinished: Send + Sync {
    /// Queues the unfinished lines.
    fn pass_unfinished(&self);
}

pub(super) enum Job {
    Write(Chunk),
    /// This holder has an unfinished line from now on.
    Unfinished(Weak<dyn Unfinished>),
    Flush(mpsc::Sender<()>),
}

pub(super) struct Chunk {
    pub(super) channel: Channel,
    pub(super) writer: WriterId,
    pub(super) bytes: Vec<u8>,
    /// The space to release when the chunk is written; 0 if it was queued without space.
    pub(super) space_bytes: usize,
    pub(super) overdraft_bytes: usize,
}

/// Tells the unfinished lines of different writers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriterId(pub(super) u64);

/// The thread's state.
pub(super) struct Sink {
    queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    /// Standard output and standard error.
    destinations: [Box<dyn Write + Send>; 2],
    /// The writer of each destination's last line, if that line is unfinished.
    unfinished: [Option<WriterId>; 2],
    /// The holders of unfinished lines, and the time since when the first of them holds one.
    holders: Vec<Weak<dyn Unfinished>>,
    held_since: Option<Instant>,
    batch: Batch,
}

/// Chunks taken from the queue, for one destination.
#[derive(Default)]
struct Batch {
    channel: Option<Channel>,
    bytes: Vec<u8>,
    space_bytes: usize,
    overdraft_bytes: usize,
}

impl Sink {
    pub(super) fn new(
        queue: mpsc::Receiver<Job>,
        shared: Arc<Shared>,
        destinations: [Box<dyn Write + Send>; 2],
    ) -> Sink {
        Sink {
            queue,
            shared,
            destinations,
            unfinished: [None; 2],
            holders: Vec::new(),
            held_since: None,
            batch: Batch::default(),
        }
    }

    /// Runs until the last `Output` is dropped and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            let next = match self.held_since {
                None => self.queue.recv().map_err(RecvTimeoutError::from),
                Some(_) => self.queue.recv_timeout(QUIET),
            };
            match next {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => self.queue_unfinished_lines(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(job) = self.queue.try_recv() {
                self.take(job);
            }
            if (self.held_since).is_some_and(|since| since.elapsed() > UNFINISHED_WAIT_MAX) {
                self.queue_unfinished_lines();
            }
            self.settle();
        }
    }

    /// Asks the holders to queue their unfinished lines. These come after everything that the holders have queued before.
    fn queue_unfinished_lines(&mut self) {
        self.held_since = None;
        for holder in self.holders.drain(..) {
            if let Some(holder) = holder.upgrade() {
                holder.pass_unfinished();
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Write(chunk) => self.add(&chunk),
            Job::Unfinished(holder) => {
                self.holders.push(holder);
                self.held_since.get_or_insert_with(Instant::now);
            }
            Job::Flush(done) => {
                self.queue_unfinished_lines();
                while let Ok(job) = self.queue.try_recv() {
                    self.take(job);
                }
                self.settle();
                let _ = done.send(());
            }
        }
    }

    fn add(&mut self, chunk: &Chunk) {
        let full = self.batch.bytes.len() + chunk.bytes.len() > BATCH_BYTES_MAX;
        if full || self.batch.channel != Some(chunk.channel) {
            self.write_batch();
            self.batch.channel = Some(chunk.channel);
        }
        let unfinished = &mut self.unfinished[chunk.channel as usize];
        if unfinished.is_some_and(|writer| writer != chunk.writer) {
            self.batch.bytes.push(b'\n');
        }
        *unfinished = (chunk.bytes.last() != Some(&b'\n')).then_some(chunk.writer);
        self.batch.bytes.extend_from_slice(&chunk.bytes);
        self.batch.space_bytes += chunk.space_bytes;
        self.batch.overdraft_bytes += chunk.overdraft_bytes;
    }

    /// Writes everything that was taken from the queue.
    fn settle(&mut self) {
        self.write_batch();
        let lost_count = self.shared.lost_count.swap(0, Ordering::Relaxed);
        if lost_count > 0 {
            self.batch.channel = Some(Channel::Stderr);
            if self.unfinished[Channel::Stderr as usize].take().is_some() {
                self.batch.bytes.push(b'\n');
            }
            let notice = format!(
                "atoll: {lost_count} pieces of output were lost: they came faster than they could be written\n"
            );
            self.batch.bytes.extend_from_slice(notice.as_bytes());
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let Some(channel) = batch.channel else {
            return;
        };
        let mut rest = batch.bytes.as_slice();
        while !rest.is_empty() && !self.is_closed(channel) {
            self.attempt(channel, |destination| match destination.write(rest) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    Ok(())
                }
                Err(error) => Err(error),
            });
        }
        // Flush before writing to the other destination, which may be the same file.
        self.attempt(channel, |destination| destination.flush());
        self.shared.space.add_permits(batch.space_bytes);
        self.shared
            .overdraft_bytes
            .fetch_sub(batch.overdraft_bytes, Ordering::Relaxed);
        // Keep the buffer for the next batch, unless a single chunk has made it large.
        batch.bytes.clear();
        batch.bytes.shrink_to(BATCH_BYTES_MAX);
        self.batch.bytes = batch.bytes;
    }

    fn is_closed(&self, channel: Channel) -> bool {
        self.shared.closed[channel as usize].load(Ordering::Relaxed) != 0
    }

    /// Tries until it succeeds or fails for good. A failure closes the destination.
    fn attempt(&mut self, channel: Channel, mut act: impl FnMut(&mut dyn Write) -> io::Result<()>) {
        while !self.is_closed(channel) {
            match act(&mut *self.destinations[channel as usize]) {
                Ok(()) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(WOULD_BLOCK_WAIT)
                }
                Err(error) => {
                    tracing::debug!(?channel, %error, "the output is closed");
                    let number = error.raw_os_error().unwrap_or(EIO);
                    self.shared.closed[channel as usize].store(number, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Drop for Sink {
    /// This also runs when a destination panicked, and when the thread could not be started, so that no writer waits for space
    /// for ever.
    fn drop(&mut self) {
        self.shared.space.close();
    }
}
