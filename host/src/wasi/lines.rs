//! One process's standard streams: lines are put together here, and passed on whole.
//!
//! Guests write in pieces (a format string's parts, a C library's small buffers), and every preview 1 write asks for a
//! flush. So a flush that belongs to a write is not one: an unfinished line stays here until it is finished, or grows
//! beyond [`LINE_BYTES_MAX`], or its process flushes expressly (preview 2's `flush`), reads from standard input (a
//! prompt must be seen before it is answered) or ends.
//!
//! What is here is the process's own: it is bounded, and when there is no room in the queue it is the process that
//! waits. Its memory is given back whenever all is passed on.

use std::mem;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::output::{Output, lock};
use super::sink::{Channel, WriterId};

/// A longer line is passed on in pieces.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024;

/// What a guest may write before it has to ask again.
const WRITE_BYTES_MAX: usize = 8 * 1024;

/// A guest that writes without end lets others run after this much.
const YIELD_BYTES: usize = 64 * 1024;

/// One standard stream of one process. Clones, and the streams made from it, share the line.
#[derive(Clone)]
pub(super) struct GuestOutput {
    lines: Arc<Lines>,
}

struct Lines {
    output: Output,
    channel: Channel,
    writer: WriterId,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// How many of them are to be passed on; the rest is an unfinished line.
    complete_bytes: usize,
}

/// Is all passed on that is to be?
#[derive(Debug, PartialEq, Eq)]
enum Passed {
    All,
    NoRoom,
    Closed,
}

impl GuestOutput {
    pub(super) fn new(output: &Output, channel: Channel) -> GuestOutput {
        let lines = Lines {
            output: output.clone(),
            channel,
            writer: output.new_writer(),
            pending: Mutex::default(),
        };
        GuestOutput {
            lines: Arc::new(lines),
        }
    }

    fn stream(&self) -> LineStream {
        LineStream {
            lines: self.lines.clone(),
            permit_bytes: 0,
            unyielded_bytes: 0,
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        self.lines.output.is_terminal(self.lines.channel)
    }
}

impl StdoutStream for GuestOutput {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.stream())
    }

    /// Preview 3's, which is not linked: a stream whose other end is closed.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::duplex(1).0)
    }
}

impl Lines {
    fn push(&self, bytes: Bytes) {
        let mut pending = lock(&self.pending);
        let before = pending.bytes.len();
        let line_end = bytes.iter().rposition(|byte| *byte == b'\n');
        if before == 0 {
            pending.bytes = bytes.into();
        } else {
            pending.bytes.extend_from_slice(&bytes);
        }
        if let Some(line_end) = line_end {
            pending.complete_bytes = before + line_end + 1;
        }
        if pending.bytes.len() - pending.complete_bytes > LINE_BYTES_MAX {
            pending.complete_bytes = pending.bytes.len();
        }
    }

    /// Takes the unfinished line for a finished one.
    fn finish_line(&self) {
        let mut pending = lock(&self.pending);
        pending.complete_bytes = pending.bytes.len();
    }

    /// Passes on what is complete, as far as there is room.
    fn pass(&self) -> Passed {
        let mut pending = lock(&self.pending);
        if self.output.is_closed(self.channel) {
            *pending = Pending::default();
            return Passed::Closed;
        }
        while pending.complete_bytes > 0 {
            let count = pending.complete_bytes.min(self.output.chunk_bytes_max());
            let Ok(room) = self.output.try_room(count) else {
                return Passed::NoRoom;
            };
            self.output
                .send(room, self.channel, self.writer, pending.take(count));
        }
        Passed::All
    }

    /// Waits until all that is complete is passed on, or the output is closed.
    async fn settled(&self) {
        while self.pass() == Passed::NoRoom {
            let complete_bytes = lock(&self.pending).complete_bytes;
            let count = complete_bytes.min(self.output.chunk_bytes_max());
            let Ok(room) = self.output.room(count).await else {
                continue;
            };
            // Another stream of this process may have passed it on meanwhile; the room is then given back.
            let mut pending = lock(&self.pending);
            let count = count.min(pending.complete_bytes);
            if count > 0 {
                self.output
                    .send(room, self.channel, self.writer, pending.take(count));
            }
        }
    }
}

impl Pending {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(count);
        self.complete_bytes -= count;
        mem::replace(&mut self.bytes, rest)
    }
}

impl Drop for Lines {
    /// The process has ended: its last line is complete as it is. Nobody can wait here.
    fn drop(&mut self) {
        let bytes = mem::take(&mut lock(&self.pending).bytes);
        if !bytes.is_empty() && !self.output.is_closed(self.channel) {
            self.output
                .send_past_bound(self.channel, self.writer, bytes);
        }
    }
}

/// A guest's handle of a standard stream.
struct LineStream {
    lines: Arc<Lines>,
    /// What the guest has been told that it may write.
    permit_bytes: usize,
    unyielded_bytes: usize,
}

#[async_trait]
impl OutputStream for LineStream {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.permit_bytes = match self.lines.pass() {
            Passed::All => WRITE_BYTES_MAX,
            Passed::NoRoom => 0,
            Passed::Closed => return Err(StreamError::Closed),
        };
        Ok(self.permit_bytes)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // The permit is what bounds the bytes that a process has here, however many streams it makes.
        let Some(permit_bytes) = self.permit_bytes.checked_sub(bytes.len()) else {
            return Err(StreamError::trap(
                "a write of more bytes than check-write allowed",
            ));
        };
        self.permit_bytes = permit_bytes;
        self.lines.push(bytes);
        match self.lines.pass() {
            Passed::All | Passed::NoRoom => Ok(()),
            Passed::Closed => Err(StreamError::Closed),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.lines.finish_line();
        match self.lines.pass() {
            Passed::All | Passed::NoRoom => Ok(()),
            Passed::Closed => Err(StreamError::Closed),
        }
    }

    /// Every preview 1 write, and most of preview 2's: no flush of an unfinished line, see the top of this file.
    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        while !bytes.is_empty() {
            self.lines.settled().await;
            if self.lines.pass() == Passed::Closed {
                return Err(StreamError::Closed);
            }
            let piece = bytes.split_to(bytes.len().min(WRITE_BYTES_MAX));
            self.unyielded_bytes += piece.len();
            self.lines.push(piece);
        }
        self.lines.settled().await;
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
        self.lines.settled().await;
    }
}

/// The host's standard input, shared by all processes that are granted it. Reading shows what this process wrote first.
pub(super) struct GuestInput {
    pub(super) stdout: GuestOutput,
    pub(super) stderr: GuestOutput,
}

impl IsTerminal for GuestInput {
    fn is_terminal(&self) -> bool {
        std::io::IsTerminal::is_terminal(&std::io::stdin())
    }
}

impl StdinStream for GuestInput {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(PromptingInput {
            input: std::io::stdin().p2_stream(),
            prompts: [self.stdout.clone(), self.stderr.clone()],
        })
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        std::io::stdin().async_stream()
    }
}

struct PromptingInput {
    input: Box<dyn InputStream>,
    prompts: [GuestOutput; 2],
}

impl PromptingInput {
    fn show_prompts(&self) {
        for prompt in &self.prompts {
            prompt.lines.finish_line();
            prompt.lines.pass();
        }
    }
}

#[async_trait]
impl InputStream for PromptingInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.show_prompts();
        self.input.read(size)
    }

    /// The default gives up, and ends the guest, after being woken ten times in vain: this happens whenever other
    /// processes read the same input and are quicker.
    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            self.ready().await;
            let bytes = self.input.read(size)?;
            if !bytes.is_empty() || size == 0 {
                return Ok(bytes);
            }
        }
    }

    async fn cancel(&mut self) {
        self.input.cancel().await;
    }
}

#[async_trait]
impl Pollable for PromptingInput {
    async fn ready(&mut self) {
        self.show_prompts();
        self.input.ready().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use wasmtime_wasi::p2::pipe::MemoryInputPipe;

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
        let check = |pieces: &[&str], before_the_end: &str, at_the_end: &str| {
            let (output, captured) = Output::memory();
            let guest = GuestOutput::new(&output, Channel::Stdout);
            let mut stream = guest.stream();
            for piece in pieces {
                write(&mut stream, piece);
            }
            assert_eq!(captured.stdout(), before_the_end, "{pieces:?}");
            drop((guest, stream));
            assert_eq!(captured.stdout(), at_the_end, "{pieces:?}");
        };
        check(&[], "", "");
        check(&["a"], "", "a");
        check(&["a\n"], "a\n", "a\n");
        check(&["a", "b", "\n"], "ab\n", "ab\n");
        check(&["a\nb"], "a\n", "a\nb");
        check(&["a\nb", "c\nd"], "a\nbc\n", "a\nbc\nd");
        check(&["\n\n", "a"], "\n\n", "\n\na");
        let (half, whole) = ("x".repeat(LINE_BYTES_MAX), "x".repeat(2 * LINE_BYTES_MAX));
        check(&[&half], "", &half);
        check(&[&half, &half], &whole, &whole);
        check(&[&whole, "y"], &whole, &format!("{whole}y"));
    }

    #[test]
    fn lines_of_many_processes_are_not_mixed() {
        const PROCESSES: usize = 8;
        const LINES: usize = 300;
        let (output, captured) = Output::memory();
        std::thread::scope(|scope| {
            for process in 0..PROCESSES {
                let guest = GuestOutput::new(&output, Channel::Stdout);
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
        let guest = GuestOutput::new(&output, Channel::Stdout);
        let mut stream = guest.stream();
        let line = format!("{}\n", "x".repeat(299));
        let mut written = 0;
        while stream.check_write().unwrap() > 0 {
            stream.write(Bytes::from(line.clone())).unwrap();
            written += 1;
        }
        // Two fit into the queue, with what they cost beside their bytes; the third waits with its process.
        assert_eq!(written, 3);
        assert!(!is_ready(stream.ready()));
        assert!(!is_ready(
            stream.blocking_write_and_flush(Bytes::from_static(b"more\n"))
        ));
        assert!(matches!(
            stream.write(Bytes::from(vec![0; WRITE_BYTES_MAX])),
            Err(StreamError::Trap(_))
        ));

        gate.open();
        block_on(stream.ready());
        assert_eq!(stream.check_write().unwrap(), WRITE_BYTES_MAX);
        output.flush();
        assert_eq!(gate.text(), line.repeat(3));
    }

    #[test]
    fn a_process_that_is_killed_while_it_waits_loses_nothing() {
        let gate = Gate::default();
        let output = Output::bounded(Box::new(gate.clone()), 1024);
        output.start().unwrap();
        let guest = GuestOutput::new(&output, Channel::Stdout);
        let mut stream = guest.stream();
        let line = format!("{}\n", "x".repeat(895));
        write(&mut stream, &line);
        assert!(!is_ready(
            stream.blocking_write_and_flush(Bytes::from_static(b"last\n"))
        ));
        drop((guest, stream));
        gate.open();
        output.flush();
        assert_eq!(gate.text(), format!("{line}last\n"));
    }

    #[test]
    fn more_than_the_queue_holds_goes_through_in_pieces() {
        let gate = Gate::default();
        gate.open();
        let output = Output::bounded(Box::new(gate.clone()), 256);
        let guest = GuestOutput::new(&output, Channel::Stdout);
        let text = format!("{}\n", "abcdefg\n".repeat(1000));
        output.start().unwrap();
        write(&mut guest.stream(), &text);
        output.flush();
        assert_eq!(gate.text(), text);
    }

    #[test]
    fn an_express_flush_shows_an_unfinished_line() {
        let (output, captured) = Output::memory();
        let mut stream = GuestOutput::new(&output, Channel::Stdout).stream();
        write(&mut stream, "name? ");
        assert_eq!(captured.stdout(), "");
        stream.flush().unwrap();
        assert_eq!(captured.stdout(), "name? ");
    }

    #[test]
    fn reading_shows_the_prompt() {
        let (output, captured) = Output::memory();
        let stdout = GuestOutput::new(&output, Channel::Stdout);
        let stderr = GuestOutput::new(&output, Channel::Stderr);
        write(&mut stdout.stream(), "name? ");
        write(&mut stderr.stream(), "hint ");
        let mut input = PromptingInput {
            input: MemoryInputPipe::new("Ann\n").p2_stream(),
            prompts: [stdout, stderr],
        };
        let read = block_on(input.blocking_read(100)).unwrap();
        assert_eq!(read, "Ann\n");
        assert_eq!(captured.stdout(), "name? ");
        assert_eq!(captured.stderr(), "hint ");
    }

    #[test]
    fn a_closed_output_is_a_closed_stream() {
        struct Broken;
        impl std::io::Write for Broken {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let output = Output::bounded(Box::new(Broken), 1024);
        let mut stream = GuestOutput::new(&output, Channel::Stdout).stream();
        write(&mut stream, "nobody reads this\n");
        output.flush();
        assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
        assert!(matches!(stream.flush(), Err(StreamError::Closed)));
        assert!(matches!(
            block_on(stream.blocking_write_and_flush(Bytes::from_static(b"x"))),
            Err(StreamError::Closed)
        ));
        block_on(stream.ready());
    }
}
