//! The host's standard input, shared by all processes to which it is granted.
//!
//! One thread reads it, when a process asks for input and none is buffered. So a blocked read occupies no other thread. Bytes
//! that no process has taken stay in the buffer for the next reader. The thread waits for late bytes even if some other program
//! has made the input non-blocking.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::AsyncRead;
use tokio::sync::Notify;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::lines::GuestOutput;
use super::output::lock;

/// The most bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// Standard input, as one process sees it. Before a read, the process's unfinished output is shown.
pub(super) struct GuestInput {
    pub(super) prompts: GuestOutput,
}

impl IsTerminal for GuestInput {
    fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&io::stdin())
    }
}

impl StdinStream for GuestInput {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(SharedInput {
            source: Source::standard(),
            prompts: self.prompts.clone(),
        })
    }

    /// For preview 3, which is not linked: a stream that has ended.
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }
}

/// The input's buffer and the signals between readers and the thread.
#[derive(Default)]
struct Source {
    state: Mutex<State>,
    wanted: Condvar,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    bytes: BytesMut,
    is_wanted: bool,
    end: Option<End>,
}

/// The reason why no more input comes.
enum End {
    Closed,
    /// The next reader gets this error.
    Failed(io::Error),
}

impl Source {
    /// This program's own standard input.
    fn standard() -> Arc<Source> {
        static SOURCE: OnceLock<Arc<Source>> = OnceLock::new();
        let source = SOURCE.get_or_init(|| {
            let source = Arc::new(Source::default());
            source.start(io::stdin());
            source
        });
        source.clone()
    }

    fn start(self: &Arc<Source>, input: impl AsFd + Send + 'static) {
        let source = self.clone();
        let thread = thread::Builder::new().name("atoll-input".to_owned());
        if let Err(error) = thread.spawn(move || source.read_on(&input)) {
            lock(&self.state).end = Some(End::Failed(error));
        }
    }

    /// Reads whenever a process asks for input, until the end.
    fn read_on(&self, input: &impl AsFd) {
        loop {
            let state = lock(&self.state);
            let is_idle = |state: &mut State| !state.is_wanted;
            drop(self.wanted.wait_while(state, is_idle));
            let mut buffer = BytesMut::zeroed(READ_BYTES);
            let read = read(input.as_fd(), &mut buffer);
            let mut state = lock(&self.state);
            state.is_wanted = false;
            match read {
                Ok(0) => state.end = Some(End::Closed),
                Ok(count) => {
                    buffer.truncate(count);
                    state.bytes.unsplit(buffer);
                }
                Err(error) => state.end = Some(End::Failed(error)),
            }
            let is_over = state.end.is_some();
            drop(state);
            self.arrived.notify_waiters();
            if is_over {
                return;
            }
        }
    }

    /// Takes at most `bytes_max` buffered bytes. If the buffer is empty, asks the thread to read.
    fn take(&self, bytes_max: usize) -> StreamResult<Bytes> {
        let mut state = lock(&self.state);
        if !state.bytes.is_empty() {
            let count = state.bytes.len().min(bytes_max);
            return Ok(state.bytes.split_to(count).freeze());
        }
        match state.end.take() {
            None => {
                self.want(&mut state);
                Ok(Bytes::new())
            }
            Some(End::Closed) => {
                state.end = Some(End::Closed);
                Err(StreamError::Closed)
            }
            Some(End::Failed(error)) => {
                state.end = Some(End::Closed);
                Err(StreamError::LastOperationFailed(error.into()))
            }
        }
    }

    fn want(&self, state: &mut State) {
        state.is_wanted = true;
        self.wanted.notify_one();
    }

    /// Waits until input has arrived, or has ended.
    async fn ready(&self) {
        let arrived = {
            let mut state = lock(&self.state);
            if !state.bytes.is_empty() || state.end.is_some() {
                return;
            }
            self.want(&mut state);
            // The state is still locked, so this can't miss a notification.
            self.arrived.notified()
        };
        arrived.await;
    }
}

/// Waits for bytes, then reads them.
fn read(input: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(input, &mut *buffer) {
            Ok(count) => return Ok(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                // Ignore the result: the read reports any error better.
                let _ = poll(&mut [PollFd::new(&input, PollFlags::IN)], None);
            }
            Err(error) if io::Error::from(error).kind() == ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

struct SharedInput {
    source: Arc<Source>,
    prompts: GuestOutput,
}

#[async_trait]
impl InputStream for SharedInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.prompts.show();
        match size {
            0 => Ok(Bytes::new()),
            size => self.source.take(size),
        }
    }

    /// The default implementation gives up after ten wake-ups without bytes, and ends the guest. That happens whenever other
    /// processes read the same input and are quicker.
    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            let bytes = self.read(size)?;
            if !bytes.is_empty() || size == 0 {
                return Ok(bytes);
            }
            self.source.ready().await;
        }
    }
}

#[async_trait]
impl Pollable for SharedInput {
    async fn ready(&mut self) {
        self.prompts.show();
        self.source.ready().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasi::output::Output;
    use std::future::Future;
    use std::io::Write;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    fn input() -> (
        impl Write,
        SharedInput,
        super::super::output::Captured,
        [GuestOutput; 2],
    ) {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let source = Arc::new(Source::default());
        source.start(reader);
        let (output, captured) = Output::memory();
        let guest = GuestOutput::both(&output, None);
        let prompts = guest[0].clone();
        (writer, SharedInput { source, prompts }, captured, guest)
    }

    #[test]
    fn bytes_that_come_late_are_waited_for() {
        let (mut writer, mut input, _captured, _guest) = input();
        assert_eq!(input.read(10).unwrap(), "");
        assert_eq!(block_on(input.blocking_read(0)).unwrap(), "");
        writer.write_all(b"some bytes").unwrap();
        assert_eq!(block_on(input.blocking_read(4)).unwrap(), "some");
        assert_eq!(block_on(input.blocking_read(100)).unwrap(), " bytes");
        drop(writer);
        assert!(matches!(
            block_on(input.blocking_read(100)),
            Err(StreamError::Closed)
        ));
        assert!(matches!(input.read(1), Err(StreamError::Closed)));
    }

    #[test]
    fn reading_shows_the_prompt() {
        use wasmtime_wasi::cli::StdoutStream as _;
        let (mut writer, mut input, captured, guest) = input();
        for (stream, text) in guest.iter().zip(["name? ", "hint "]) {
            let mut stream = stream.p2_stream();
            block_on(stream.blocking_write_and_flush(Bytes::from_static(text.as_bytes()))).unwrap();
        }
        writer.write_all(b"Ann\n").unwrap();
        assert_eq!(block_on(input.blocking_read(100)).unwrap(), "Ann\n");
        assert_eq!(captured.stdout(), "name? ");
        assert_eq!(captured.stderr(), "hint ");
    }
}
