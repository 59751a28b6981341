//! One process's standard streams. They put lines together and pass them on whole.
//!
//! Guests write in pieces (a format string's parts, a C library's small buffers), and every preview 1 write asks for a flush. So
//! a flush that belongs to a write does nothing: an unfinished line waits here some milliseconds for its rest. It is passed on
//! unfinished after that time, and in these cases: it grows beyond [`LINE_BYTES_MAX`]; its process flushes explicitly (preview
//! 2's `flush`), writes to its other stream, reads from standard input (the prompt must be seen first), or ends.
//!
//! All bytes here have space reserved in the output's queue: a writer waits for the space first. So nothing here is lost, however
//! much other processes write. In particular, a process that ends can pass on its last line without waiting.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::output::{CHUNK_OVERHEAD_BYTES, Output, lock};
use super::sink::{Channel, Unfinished, WriterId};
use super::{HostBudget, Seam};

/// A longer line is passed on in pieces.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024;

/// The most bytes that a guest may write before it has to ask again.
const WRITE_BYTES_MAX: usize = 8 * 1024;

/// A guest that writes without end yields to others after this many bytes.
const YIELD_BYTES: usize = 64 * 1024;

const CHANNELS: [Channel; 2] = [Channel::Stdout, Channel::Stderr];

/// One standard stream of one process. Its clones, and the streams made from it, share the line.
#[derive(Clone)]
pub(super) struct GuestOutput {
    lines: Arc<Lines>,
    channel: Channel,
}

/// Both standard streams of one process.
struct Lines {
    output: Output,
    writers: [WriterId; 2],
    pending: Mutex<Pending>,
    /// None if nothing but the output's own speed bounds what the process writes.
    meter: Option<Meter>,
}

/// The budget of a process's output, and the clock for it.
pub(super) struct Meter {
    pub(super) budget: Arc<dyn HostBudget>,
    pub(super) seam: Arc<dyn Seam>,
}

#[derive(Default)]
struct Pending {
    streams: [Line; 2],
    /// The output's thread knows that a line is unfinished here.
    is_registered: bool,
}

/// The bytes of a stream that have not been passed on: an unfinished line.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// The queue space that is reserved for the line.
    space_bytes: usize,
}

impl GuestOutput {
    /// Standard output and standard error of one process.
    pub(super) fn both(output: &Output, meter: Option<Meter>) -> [GuestOutput; 2] {
        let lines = Arc::new(Lines {
            output: output.clone(),
            writers: [output.new_writer(), output.new_writer()],
            pending: Mutex::default(),
            meter,
        });
        CHANNELS.map(|channel| GuestOutput {
            lines: lines.clone(),
            channel,
        })
    }

    /// Passes on the unfinished lines of both streams.
    pub(super) fn show(&self) {
        self.lines.pass_unfinished();
    }

    fn stream(&self) -> LineStream {
        LineStream {
            lines: self.lines.clone(),
            channel: self.channel,
            space_bytes: 0,
            permit_bytes: 0,
            unyielded_bytes: 0,
            unpaced_bytes: 0,
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        self.lines.output.is_terminal(self.channel)
    }
}

impl StdoutStream for GuestOutput {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.stream())
    }

    /// For preview 3, which is not linked: a stream whose other end is closed.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::duplex(1).0)
    }
}

impl Lines {
    /// Adds bytes with their reserved space, and passes on complete lines.
    fn push(self: &Arc<Lines>, channel: Channel, bytes: &[u8], space_bytes: usize) {
        let mut pending = lock(&self.pending);
        for other in CHANNELS.into_iter().filter(|other| *other != channel) {
            let end = pending.streams[other as usize].bytes.len();
            self.pass(&mut pending, other, end);
        }
        let line = &mut pending.streams[channel as usize];
        let before = line.bytes.len();
        line.bytes.extend_from_slice(bytes);
        line.space_bytes += space_bytes;
        let line_end = bytes.iter().rposition(|byte| *byte == b'\n');
        let complete = match line_end {
            _ if line.bytes.len() - line_end.map_or(0, |end| before + end + 1) > LINE_BYTES_MAX => {
                line.bytes.len()
            }
            Some(line_end) => before + line_end + 1,
            None => 0,
        };
        self.pass(&mut pending, channel, complete);
        let is_unfinished = !pending.streams[channel as usize].bytes.is_empty();
        if is_unfinished && !mem::replace(&mut pending.is_registered, true) {
            let holder: Arc<dyn Unfinished> = self.clone();
            self.output.register_unfinished(Arc::downgrade(&holder));
        }
    }

    /// Passes on the first `count` pending bytes.
    fn pass(&self, pending: &mut Pending, channel: Channel, count: usize) {
        let line = &mut pending.streams[channel as usize];
        if count == 0 {
            return;
        }
        let rest = line.bytes.split_off(count);
        let bytes = mem::replace(&mut line.bytes, rest);
        // The rest of the line keeps only the space that it needs.
        let kept = line.bytes.len();
        let space_bytes = mem::replace(&mut line.space_bytes, kept) - kept;
        self.output
            .send(space_bytes, channel, self.writers[channel as usize], bytes);
    }

    /// The largest piece of a guest's write that the queue can have space for.
    fn piece_bytes(&self) -> usize {
        WRITE_BYTES_MAX.min(self.output.chunk_bytes_max())
    }

    fn check_open(&self, channel: Channel) -> StreamResult<()> {
        match self.output.closed(channel) {
            Some(error) => Err(failed(error)),
            None => Ok(()),
        }
    }

    /// Takes the bytes of a write out of the process's budget.
    fn take(&self, bytes: usize) -> StreamResult<()> {
        match &self.meter {
            Some(meter) if !meter.budget.take_output(bytes as u64) => {
                Err(failed(rustix::io::Errno::NOSPC.into()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the process may write so many bytes more.
    async fn keep_pace(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            let now_ns = meter.seam.now();
            let delay = meter.budget.output_delay(bytes as u64, now_ns);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Waits for space for this many bytes, and reserves it. Returns the reserved bytes; 0 if the output is closed.
    async fn reserve(&self, bytes: usize) -> usize {
        match self.output.reserve(bytes).await {
            Ok(space) => {
                space.forget();
                bytes + CHUNK_OVERHEAD_BYTES
            }
            Err(_) => 0,
        }
    }
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

impl Unfinished for Lines {
    fn pass_unfinished(&self) {
        let mut pending = lock(&self.pending);
        pending.is_registered = false;
        for channel in CHANNELS {
            let end = pending.streams[channel as usize].bytes.len();
            self.pass(&mut pending, channel, end);
        }
    }
}

impl Drop for Lines {
    /// The process has ended, so its last line is as complete as it gets.
    fn drop(&mut self) {
        self.pass_unfinished();
    }
}

/// A guest's handle of a standard stream.
struct LineStream {
    lines: Arc<Lines>,
    channel: Channel,
    /// The space that is reserved for what the guest may write.
    space_bytes: usize,
    /// The number of bytes that the guest has been allowed to write.
    permit_bytes: usize,
    unyielded_bytes: usize,
    /// Bytes that were written and for which the guest has not waited yet, if its output has a rate.
    unpaced_bytes: usize,
}

#[async_trait]
impl OutputStream for LineStream {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.lines.check_open(self.channel)?;
        if self.unpaced_bytes > 0 && self.lines.meter.is_some() {
            return Ok(0);
        }
        let piece_bytes = self.lines.piece_bytes();
        if self.space_bytes == 0
            && let Ok(space) = self.lines.output.try_reserve(piece_bytes)
        {
            self.space_bytes = space.num_permits();
            space.forget();
        }
        self.permit_bytes = self.space_bytes.saturating_sub(CHUNK_OVERHEAD_BYTES);
        Ok(self.permit_bytes)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // The permit bounds the bytes that a process has here, however many streams it makes.
        let Some(permit_bytes) = self.permit_bytes.checked_sub(bytes.len()) else {
            return Err(StreamError::trap(
                "a write of more bytes than check-write allowed",
            ));
        };
        self.lines.check_open(self.channel)?;
        self.lines.take(bytes.len())?;
        self.unpaced_bytes += bytes.len();
        self.permit_bytes = permit_bytes;
        // All of the space goes with the last bytes of the permit.
        let space_bytes = match permit_bytes {
            0 => self.space_bytes,
            _ => bytes.len(),
        };
        self.space_bytes -= space_bytes;
        if !bytes.is_empty() {
            self.lines.push(self.channel, &bytes, space_bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.lines.pass_unfinished();
        self.lines.check_open(self.channel)
    }

    /// Every preview 1 write comes here, and most of preview 2's. An unfinished line isn't flushed; see the top of this file.
    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(self.lines.piece_bytes()));
            self.lines.take(piece.len())?;
            self.lines.keep_pace(piece.len()).await;
            let space_bytes = self.lines.reserve(piece.len()).await;
            if let Err(error) = self.lines.check_open(self.channel) {
                self.lines.output.release(space_bytes);
                return Err(error);
            }
            self.unyielded_bytes += piece.len();
            self.lines.push(self.channel, &piece, space_bytes);
        }
        self.lines.check_open(self.channel)?;
        if self.unyielded_bytes >= YIELD_BYTES {
            self.unyielded_bytes = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {
        let unpaced_bytes = mem::take(&mut self.unpaced_bytes);
        if unpaced_bytes > 0 {
            self.lines.keep_pace(unpaced_bytes).await;
        }
        if self.space_bytes == 0 && self.lines.output.closed(self.channel).is_none() {
            self.space_bytes = self.lines.reserve(self.lines.piece_bytes()).await;
        }
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        self.lines.output.release(self.space_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::output::tests::Gate;
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn is_ready(future: impl Future) -> bool {
        pin!(future)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    fn write(stream: &mut LineStream, text: &str) {
        block_on(stream.blocking_write_and_flush(Bytes::copy_from_slice(text.as_bytes()))).unwrap();
    }

    #[test]
    fn lines_are_put_together() {
        let check = |pieces: &[&str], unfinished: &str| {
            // The output's thread isn't started yet, so it doesn't ask for unfinished lines.
            let (output, captured) = Output::memory();
            let [guest, _] = GuestOutput::both(&output, None);
            let mut stream = guest.stream();
            for piece in pieces {
                write(&mut stream, piece);
            }
            let pending = lock(&guest.lines.pending);
            assert_eq!(
                pending.streams[0].bytes,
                unfinished.as_bytes(),
                "{pieces:?}"
            );
            drop(pending);
            drop((guest, stream));
            assert_eq!(captured.stdout(), pieces.concat(), "{pieces:?}");
        };
        check(&[], "");
        check(&["a"], "a");
        check(&["a\n"], "");
        check(&["a", "b", "\n"], "");
        check(&["a\nb"], "b");
        check(&["a\nb", "c\nd"], "d");
        check(&["\n\n", "a"], "a");
        let (half, whole) = ("x".repeat(LINE_BYTES_MAX), "x".repeat(2 * LINE_BYTES_MAX));
        check(&[&half], &half);
        check(&[&half, &half], "");
        check(&[&whole, "y"], "y");
    }

    #[test]
    fn lines_of_many_processes_are_not_mixed() {
        const PROCESSES: usize = 8;
        const LINES: usize = 300;
        let (output, captured) = Output::memory();
        output.start().unwrap();
        std::thread::scope(|scope| {
            for process in 0..PROCESSES {
                let [guest, _] = GuestOutput::both(&output, None);
                scope.spawn(move || {
                    let mut stream = guest.stream();
                    for line in 0..LINES {
                        for piece in [
                            "process ",
                            &process.to_string(),
                            " line ",
                            &line.to_string(),
                            "\n",
                        ] {
                            write(&mut stream, piece);
                        }
                    }
                });
            }
        });
        let mut next = [0; PROCESSES];
        for line in captured.stdout().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let ["process", process, "line", number] = words[..] else {
                panic!("a mixed line: {line}");
            };
            let next = &mut next[process.parse::<usize>().unwrap()];
            assert_eq!(number, next.to_string(), "{line}");
            *next += 1;
        }
        assert_eq!(next, [LINES; PROCESSES]);
    }

    #[test]
    fn a_full_queue_makes_the_guest_wait() {
        let gate = Gate::default();
        let output = Output::bounded(Box::new(gate.clone()), 1024);
        output.start().unwrap();
        let [guest, _] = GuestOutput::both(&output, None);
        let mut stream = guest.stream();
        let line = format!("{}\n", "x".repeat(299));
        let piece = 1024 - CHUNK_OVERHEAD_BYTES;
        assert_eq!(stream.check_write().unwrap(), piece);
        for _ in 0..2 {
            stream.write(Bytes::from(line.clone())).unwrap();
        }
        // The rest of the permit releases space for another line.
        let rest = Bytes::from(vec![b'y'; piece - 2 * line.len()]);
        stream.write(rest.clone()).unwrap();
        assert_eq!(stream.check_write().unwrap(), 0);
        assert!(!is_ready(stream.ready()));
        assert!(!is_ready(
            stream.blocking_write_and_flush(Bytes::from_static(b"more\n"))
        ));
        assert!(matches!(
            stream.write(Bytes::from_static(b"x")),
            Err(StreamError::Trap(_))
        ));

        gate.open();
        block_on(stream.ready());
        assert_eq!(stream.check_write().unwrap(), piece);
        output.flush();
        let rest = String::from_utf8_lossy(&rest);
        assert_eq!(gate.text(), format!("{line}{line}{rest}"));
    }

    #[test]
    fn the_last_line_of_a_process_is_not_lost_in_a_flood() {
        let gate = Gate::default();
        let output = Output::bounded(Box::new(gate.clone()), 1024);
        output.start().unwrap();
        let [guest, _] = GuestOutput::both(&output, None);
        let [flood, _] = GuestOutput::both(&output, None);
        let (mut stream, mut flood) = (guest.stream(), flood.stream());
        write(&mut stream, "last");
        let more = || Bytes::from(vec![b'x'; 500]);
        write(&mut flood, &"x".repeat(500));
        assert!(!is_ready(flood.blocking_write_and_flush(more())));
        drop((guest, stream));
        gate.open();
        output.flush();
        assert!(gate.text().contains("last"));
    }

    #[test]
    fn output_to_both_streams_keeps_its_order() {
        let gate = Gate::default();
        let output = Output::new(Box::new(gate.clone()), Box::new(gate.clone()));
        let [stdout, stderr] = GuestOutput::both(&output, None);
        write(&mut stdout.stream(), "half ");
        write(&mut stderr.stream(), "error\n");
        write(&mut stdout.stream(), "whole\n");
        gate.open();
        output.flush();
        assert_eq!(gate.text(), "half error\nwhole\n");
    }

    #[test]
    fn an_unfinished_line_is_shown_after_a_while() {
        let gate = Gate::default();
        gate.open();
        let output = Output::bounded(Box::new(gate.clone()), 1024);
        output.start().unwrap();
        let [guest, _] = GuestOutput::both(&output, None);
        write(&mut guest.stream(), "ready> ");
        while gate.text().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(gate.text(), "ready> ");
    }

    #[test]
    fn a_write_larger_than_the_queue_goes_through_in_pieces() {
        let gate = Gate::default();
        gate.open();
        let output = Output::bounded(Box::new(gate.clone()), 256);
        let [guest, _] = GuestOutput::both(&output, None);
        let text = format!("{}\n", "abcdefg\n".repeat(1000));
        output.start().unwrap();
        write(&mut guest.stream(), &text);
        output.flush();
        assert_eq!(gate.text(), text);
    }

    #[test]
    fn a_closed_output_fails_with_its_error() {
        struct Broken;
        impl std::io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::Error::from_raw_os_error(32))
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let output = Output::bounded(Box::new(Broken), 1024);
        let mut stream = GuestOutput::both(&output, None)[0].stream();
        write(&mut stream, "nobody reads this\n");
        output.flush();
        let is_broken = |error: StreamError| match error {
            StreamError::LastOperationFailed(error) => {
                let error = error.downcast_ref::<std::io::Error>();
                error.is_some_and(|error| error.raw_os_error() == Some(32))
            }
            _ => false,
        };
        assert!(is_broken(stream.check_write().unwrap_err()));
        assert!(is_broken(stream.flush().unwrap_err()));
        let written = block_on(stream.blocking_write_and_flush(Bytes::from_static(b"x")));
        assert!(is_broken(written.unwrap_err()));
        block_on(stream.ready());
    }
}
