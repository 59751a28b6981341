//! The thread that writes a system's output, and what is in its queue.
//!
//! It takes what is queued, puts chunks for the same destination together, writes them, and gives back their room. It
//! alone blocks on a destination.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::Semaphore;

/// What is written in one go: many short lines cost one system call.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// How long to wait for a destination that some other program has made non-blocking, and that is full.
const WOULD_BLOCK_WAIT: Duration = Duration::from_millis(1);

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
    pub(super) closed: [AtomicBool; 2],
}

pub(super) enum Job {
    Write(Chunk),
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
            batch: Batch::default(),
        }
    }

    /// Until the last `Output` is dropped and the queue is empty.
    pub(super) fn run(mut self) {
        while let Ok(job) = self.queue.recv() {
            self.take(job);
            while let Ok(job) = self.queue.try_recv() {
                self.take(job);
            }
            self.settle();
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Write(chunk) => self.add(&chunk),
            Job::Flush(done) => {
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

    /// Writes all that was taken, and makes the destinations pass it on.
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
        for channel in [Channel::Stdout, Channel::Stderr] {
            self.attempt(channel, |destination| destination.flush());
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
        self.shared.closed[channel as usize].load(Ordering::Relaxed)
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
                    self.shared.closed[channel as usize].store(true, Ordering::Relaxed);
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
