//! The output of a system's processes: one queue, and one thread that writes it.
//!
//! ```text
//!   process ── lines ──┐  waits when
//!   process ── lines ──┼─ the queue ──> thread "atoll-output" ──> stdout, stderr
//!   reports ───────────┘  is full
//! ```
//!
//! A terminal may stop and a pipe may fill. Only this thread blocks on them, never a scheduler. Standard output and standard
//! error share the queue, so that a process's writes to both come out in order. The queue's bytes are bounded: a writer reserves
//! space before it sends a chunk, and the thread releases the space when the chunk is written.
//!
//! No line holds bytes of two processes. If one process leaves a line unfinished and another one writes, the thread puts a
//! newline between them.
//!
//! A destination that fails, such as a pipe whose reader has gone away, is closed for good. Guests see its error, and
//! [`Output::failure`] returns it at the end.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError};

use super::sink::{Channel, Chunk, Job, Shared, Sink, Unfinished, WriterId};

/// The most bytes in the queue. It is large enough that a terminal's hiccup stops no process.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The most bytes that may be queued beyond that by writers that can't wait: reports of crashes and last lines.
const OVERDRAFT_BYTES_MAX: usize = 4 << 20;

/// The cost of a queued chunk beside its bytes, so that empty lines are not free.
pub(super) const CHUNK_OVERHEAD_BYTES: usize = 128;

/// The most bytes that [`Output::memory`] keeps of each stream. It is for tests and short-lived programs.
const CAPTURE_BYTES_MAX: usize = 16 << 20;

/// The standard output and standard error of a system's processes. Clones share the same output.
#[derive(Clone)]
pub struct Output {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    /// The thread's state, until the thread is started.
    sink: Mutex<Option<Sink>>,
    /// Are they terminals?
    terminals: [bool; 2],
    queue_bytes_max: usize,
    writers_count: AtomicU64,
}

impl Output {
    /// This program's own standard output and error.
    pub fn inherit() -> Output {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let terminals = [stdout.is_terminal(), stderr.is_terminal()];
        Output::build(
            Box::new(stdout),
            Box::new(stderr),
            terminals,
            QUEUE_BYTES_MAX,
        )
    }

    /// Writes to these destinations. They may block.
    pub fn new(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Output {
        Output::build(stdout, stderr, [false; 2], QUEUE_BYTES_MAX)
    }

    /// Writes to memory, for a test to read. Keeps 16 MiB of each stream; then the stream is closed.
    pub fn memory() -> (Output, Captured) {
        let (stdout, stderr) = (Capture::default(), Capture::default());
        let output = Output::new(Box::new(stdout.clone()), Box::new(stderr.clone()));
        let captured = Captured {
            output: output.clone(),
            stdout,
            stderr,
        };
        (output, captured)
    }

    #[cfg(test)]
    pub(super) fn bounded(stdout: Box<dyn Write + Send>, queue_bytes_max: usize) -> Output {
        Output::build(stdout, Box::new(io::sink()), [false; 2], queue_bytes_max)
    }

    fn build(
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
        terminals: [bool; 2],
        queue_bytes_max: usize,
    ) -> Output {
        let (jobs, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            space: Semaphore::new(queue_bytes_max),
            overdraft_bytes: AtomicUsize::new(0),
            lost_count: AtomicUsize::new(0),
            closed: [AtomicI32::new(0), AtomicI32::new(0)],
        });
        let sink = Sink::new(queue, shared.clone(), [stdout, stderr]);
        let inner = Inner {
            jobs,
            shared,
            sink: Mutex::new(Some(sink)),
            terminals,
            queue_bytes_max,
            writers_count: AtomicU64::new(0),
        };
        Output {
            inner: Arc::new(inner),
        }
    }

    /// Starts the thread, if it is not running. Until then all output stays in the queue.
    ///
    /// # Errors
    ///
    /// If the operating system provides no thread. The output is then closed.
    pub fn start(&self) -> io::Result<()> {
        match lock(&self.inner.sink).take() {
            Some(sink) => thread::Builder::new()
                .name("atoll-output".to_owned())
                .spawn(move || sink.run())
                .map(drop),
            None => Ok(()),
        }
    }

    /// Waits until everything queued before is written, including unfinished lines. This is for an orderly end; it blocks as long
    /// as the destinations do.
    pub fn flush(&self) {
        let (done, wait) = mpsc::channel();
        // Without the thread nothing is written, so there is nothing to wait for.
        if self.start().is_ok() && self.inner.jobs.send(Job::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Writes a block of lines to standard error, undivided. Never waits: if far too much is queued already, the block is lost,
    /// and the thread says so on standard error as soon as it can.
    pub fn report(&self, block: &str) {
        let mut bytes = block.as_bytes().to_vec();
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        self.send_without_space(Channel::Stderr, self.new_writer(), bytes);
    }

    pub(super) fn is_terminal(&self, channel: Channel) -> bool {
        self.inner.terminals[channel as usize]
    }

    pub(super) fn new_writer(&self) -> WriterId {
        WriterId(self.inner.writers_count.fetch_add(1, Ordering::Relaxed))
    }

    /// The reason why this stream is closed, if it is.
    pub(super) fn closed(&self, channel: Channel) -> Option<io::Error> {
        let shared = &self.inner.shared;
        match shared.closed[channel as usize].load(Ordering::Relaxed) {
            0 if shared.space.is_closed() => Some(ErrorKind::BrokenPipe.into()),
            0 => None,
            number => Some(io::Error::from_raw_os_error(number)),
        }
    }

    /// The first stream that has failed, and why, if output was lost. A pipe whose reader has gone away is no failure: the reader
    /// has what it wanted.
    pub fn failure(&self) -> Option<(&'static str, io::Error)> {
        let failed = |channel, name| {
            let error = self.closed(channel)?;
            (error.kind() != ErrorKind::BrokenPipe).then_some((name, error))
        };
        failed(Channel::Stdout, "standard output")
            .or_else(|| failed(Channel::Stderr, "standard error"))
    }

    /// The largest chunk that the queue can have space for.
    pub(super) fn chunk_bytes_max(&self) -> usize {
        self.inner.queue_bytes_max - CHUNK_OVERHEAD_BYTES
    }

    /// Reserves space for a chunk, if there is some now.
    pub(super) fn try_reserve(
        &self,
        chunk_bytes: usize,
    ) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.inner
            .shared
            .space
            .try_acquire_many(space_bytes(chunk_bytes))
    }

    /// Waits for space for a chunk, and reserves it. Writers get space in the order in which they ask.
    pub(super) async fn reserve(
        &self,
        chunk_bytes: usize,
    ) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.inner
            .shared
            .space
            .acquire_many(space_bytes(chunk_bytes))
            .await
    }

    /// Queues a chunk that has `space_bytes` reserved.
    pub(super) fn send(
        &self,
        space_bytes: usize,
        channel: Channel,
        writer: WriterId,
        bytes: Vec<u8>,
    ) {
        assert!(!bytes.is_empty() && space_bytes >= bytes.len());
        let chunk = Chunk {
            channel,
            writer,
            bytes,
            space_bytes,
            overdraft_bytes: 0,
        };
        // If the thread is gone, the output is closed. The next write reports that.
        let _ = self.inner.jobs.send(Job::Write(chunk));
    }

    /// Releases reserved space that is not needed.
    pub(super) fn release(&self, space_bytes: usize) {
        self.inner.shared.space.add_permits(space_bytes);
    }

    /// Registers a holder of unfinished lines. The thread asks the holder for them after some time.
    pub(super) fn register_unfinished(&self, holder: Weak<dyn Unfinished>) {
        let _ = self.inner.jobs.send(Job::Unfinished(holder));
    }

    /// Queues a chunk that can't wait for space.
    fn send_without_space(&self, channel: Channel, writer: WriterId, bytes: Vec<u8>) {
        let shared = &self.inner.shared;
        let size = bytes.len() + CHUNK_OVERHEAD_BYTES;
        let more = |used: usize| Some(used + size).filter(|sum| *sum <= OVERDRAFT_BYTES_MAX);
        if shared
            .overdraft_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_err()
        {
            shared.lost_count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let chunk = Chunk {
            channel,
            writer,
            bytes,
            space_bytes: 0,
            overdraft_bytes: size,
        };
        let _ = self.inner.jobs.send(Job::Write(chunk));
    }
}

fn space_bytes(chunk_bytes: usize) -> u32 {
    u32::try_from(chunk_bytes + CHUNK_OVERHEAD_BYTES).expect("a chunk is at most chunk_bytes_max")
}

/// Locks a mutex, even if it is poisoned. Its data is consistent at every point where a panic is possible.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Output {
    fn default() -> Output {
        Output::inherit()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Output")
            .field("terminals", &self.inner.terminals)
            .finish_non_exhaustive()
    }
}

/// The output that [`Output::memory`] has captured.
#[derive(Debug)]
pub struct Captured {
    output: Output,
    stdout: Capture,
    stderr: Capture,
}

impl Captured {
    /// Everything that has been written to standard output.
    pub fn stdout(&self) -> String {
        self.output.flush();
        self.stdout.text()
    }

    /// Everything that has been written to standard error.
    pub fn stderr(&self) -> String {
        self.output.flush();
        self.stderr.text()
    }
}

#[derive(Clone, Debug, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut captured = lock(&self.0);
        if captured.len() + bytes.len() > CAPTURE_BYTES_MAX {
            return Err(ErrorKind::StorageFull.into());
        }
        captured.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Blocks every write until it is opened, then keeps the bytes.
    #[derive(Clone, Default)]
    pub(crate) struct Gate {
        open: Arc<(Mutex<bool>, std::sync::Condvar)>,
        written: Capture,
    }

    impl Gate {
        pub(crate) fn open(&self) {
            *lock(&self.open.0) = true;
            self.open.1.notify_all();
        }

        pub(crate) fn text(&self) -> String {
            self.written.text()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (open, opened) = &*self.open;
            drop(opened.wait_while(lock(open), |open| !*open).unwrap());
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fails with each of these errors, one write after the other, then accepts one byte at a time.
    struct Faulty(Vec<ErrorKind>, Capture);

    impl Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.pop() {
                Some(kind) => Err(kind.into()),
                None => self.1.write(&bytes[..1]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn send(output: &Output, channel: Channel, writer: WriterId, text: &str) {
        let space = output.try_reserve(text.len()).unwrap();
        let space_bytes = space.num_permits();
        space.forget();
        output.send(space_bytes, channel, writer, text.into());
    }

    #[test]
    fn no_line_holds_bytes_of_two_writers() {
        let (output, captured) = Output::memory();
        let (one, two) = (output.new_writer(), output.new_writer());
        for (channel, writer, text) in [
            (Channel::Stdout, one, "a"),
            (Channel::Stdout, one, "b"),
            (Channel::Stderr, two, "on the other stream"),
            (Channel::Stdout, two, "c\n"),
            (Channel::Stdout, one, "d\n"),
            (Channel::Stdout, two, "e"),
        ] {
            send(&output, channel, writer, text);
        }
        output.report("a report\nof two lines");
        assert_eq!(captured.stdout(), "ab\nc\nd\ne");
        assert_eq!(
            captured.stderr(),
            "on the other stream\na report\nof two lines\n"
        );
    }

    #[test]
    fn chunks_are_written_in_order_whatever_the_batches() {
        let (output, captured) = Output::memory();
        let writer = output.new_writer();
        let mut expected = String::new();
        for number in 0..20_000 {
            let line = format!("line {number}\n");
            expected.push_str(&line);
            match output.try_reserve(line.len()) {
                Ok(space) => drop(space),
                Err(_) => output.flush(),
            }
            send(&output, Channel::Stdout, writer, &line);
        }
        assert_eq!(captured.stdout(), expected);
    }

    #[test]
    fn temporary_faults_are_retried() {
        let capture = Capture::default();
        let faults = vec![ErrorKind::WouldBlock, ErrorKind::Interrupted];
        let output = Output::bounded(Box::new(Faulty(faults, capture.clone())), 1024);
        send(&output, Channel::Stdout, output.new_writer(), "whole\n");
        output.flush();
        assert_eq!(capture.text(), "whole\n");
        assert!(output.closed(Channel::Stdout).is_none());
    }

    #[test]
    fn lasting_faults_close_the_stream_and_release_the_space() {
        let faulty = Faulty(vec![ErrorKind::BrokenPipe], Capture::default());
        let output = Output::bounded(Box::new(faulty), 256);
        let writer = output.new_writer();
        for _ in 0..3 {
            send(&output, Channel::Stdout, writer, &"x".repeat(128));
            output.flush();
        }
        assert!(output.closed(Channel::Stdout).is_some());
        assert!(output.closed(Channel::Stderr).is_none());
    }

    #[test]
    fn reports_beyond_the_overdraft_are_lost_and_counted() {
        let gate = Gate::default();
        let stderr = Capture::default();
        let output = Output::new(Box::new(gate.clone()), Box::new(stderr.clone()));
        output.start().unwrap();
        send(&output, Channel::Stdout, output.new_writer(), "held up\n");
        let block = "r".repeat(OVERDRAFT_BYTES_MAX / 4);
        for _ in 0..5 {
            output.report(&block);
        }
        gate.open();
        output.flush();
        // The thread prints the notice when it first finds that something was lost, before or after the other blocks.
        let notice =
            "atoll: 2 pieces of output were lost: they came faster than they could be written\n";
        let text = stderr.text();
        assert_eq!(text.matches(notice).count(), 1);
        assert_eq!(text.replace(notice, ""), format!("{block}\n").repeat(3));
    }

    #[test]
    fn waiting_ends_when_the_thread_is_gone() {
        struct Panics;
        impl Write for Panics {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("as the test wants it");
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::bounded(Box::new(Panics), 1024);
        send(&output, Channel::Stdout, output.new_writer(), "x");
        output.flush();
        // The queue never has this much space: only the end of the thread can end the waiting.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert!(runtime.block_on(output.reserve(2000)).is_err());
        assert!(output.closed(Channel::Stdout).is_some());
        output.flush();
    }
}
