//! The thread that writes a system's output, and what is in its queue.
//!
//! It takes what is queued, puts chunks for the same destination together, writes them, and gives back their room. It
//! alone blocks on a destination.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// What is written in one go: many short lines cost one system call.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// How long to wait for a destination that some other program has made non-blocking, and that is full.
const WOULD_BLOCK_WAIT: Duration = Duration::from_millis(1);

/// How long nothing may have come before unfinished lines are shown as they are: a guest that writes a line in pieces takes
/// less, and nobody sees the difference.
const QUIET: Duration = Duration::from_millis(20);

/// The longest time that an unfinished line waits for its rest while others write: then a line is shown in two parts rather than
/// not at all.
const UNFINISHED_WAIT_MAX: Duration = Duration::from_secs(1);

/// The error number of a destination that fails without one.
const EIO: i32 = 5;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// What the thread and the processes both see.
pub(super) struct Shared {
    /// Bytes that may still be queued. Closed when the thread is gone.
    pub(super) room: Semaphore,
    /// Bytes queued without room.
    pub(super) overdraft_bytes: AtomicUsize,
    /// Chunks that not even the overdraft had place for, since this was last told.
    pub(super) lost_count: AtomicUsize,
    /// The error number by which each destination failed; 0 while it is open.
    pub(super) closed: [AtomicI32; 2],
}

/// Somebody who holds unfinished lines, and passes them on when told to.
pub(super) trait Unfinished: Send + Sync {
    /// Queues what is unfinished as it is.
    fn pass_unfinished(&self);
}

pub(super) enum Job {
    Write(Chunk),
    /// From now on somebody holds an unfinished line.
    Unfinished(Weak<dyn Unfinished>),
    Flush(mpsc::Sender<()>),
}

pub(super) struct Chunk {
    pub(super) channel: Channel,
    pub(super) writer: WriterId,
    pub(super) bytes: Vec<u8>,
    /// What to give back when it is written; 0 if it was queued without room.
    pub(super) room_bytes: usize,
    pub(super) overdraft_bytes: usize,
}

/// Tells one writer's unfinished line from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriterId(pub(super) u64);

/// The thread's work.
pub(super) struct Sink {
    queue: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    /// Standard output, standard error.
    destinations: [Box<dyn Write + Send>; 2],
    /// Who wrote the last line, if it is unfinished.
    unfinished: [Option<WriterId>; 2],
    /// Who holds unfinished lines, and since when the first of them does.
    holders: Vec<Weak<dyn Unfinished>>,
    held_since: Option<Instant>,
    batch: Batch,
}

/// Chunks taken from the queue, for one destination.
#[derive(Default)]
struct Batch {
    channel: Option<Channel>,
    bytes: Vec<u8>,
    room_bytes: usize,
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

    /// Until the last `Output` is dropped and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            let next = match self.held_since {
                None => self.queue.recv().map_err(RecvTimeoutError::from),
                Some(_) => self.queue.recv_timeout(QUIET),
            };
            match next {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => self.have_lines_shown(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(job) = self.queue.try_recv() {
                self.take(job);
            }
            if (self.held_since).is_some_and(|since| since.elapsed() > UNFINISHED_WAIT_MAX) {
                self.have_lines_shown();
            }
            self.settle();
        }
    }

    /// Has unfinished lines queued, behind what their holders have queued before.
    fn have_lines_shown(&mut self) {
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
                self.have_lines_shown();
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
        self.batch.room_bytes += chunk.room_bytes;
        self.batch.overdraft_bytes += chunk.overdraft_bytes;
    }

    /// Writes all that was taken.
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
        // Before anything goes to the other destination, which may be the same file.
        self.attempt(channel, |destination| destination.flush());
        self.shared.room.add_permits(batch.room_bytes);
        self.shared
            .overdraft_bytes
            .fetch_sub(batch.overdraft_bytes, Ordering::Relaxed);
        // The buffer serves again, unless a single chunk has made it large.
        batch.bytes.clear();
        batch.bytes.shrink_to(BATCH_BYTES_MAX);
        self.batch.bytes = batch.bytes;
    }

    fn is_closed(&self, channel: Channel) -> bool {
        self.shared.closed[channel as usize].load(Ordering::Relaxed) != 0
    }

    /// Does it until it succeeds, or fails for good, which closes the destination.
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
    /// Also when a destination panicked, and when the thread could not be started: nobody must wait for room for ever.
    fn drop(&mut self) {
        self.shared.room.close();
    }
}
