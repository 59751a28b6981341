//! The program `atoll`, run once for each check.

use crate::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A program that has not ended by then never will: the slowest test takes a few seconds on an idle machine.
const HANG: Duration = Duration::from_secs(120);

/// One run of the program `atoll`, with the files that it needs, which are gone when it is dropped.
///
/// Compiled code is not kept unless [`Atoll::cached`] says so, and the environment is empty but for what
/// [`Atoll::env`] adds.
pub struct Atoll {
    folder: TempDir,
    subcommand: Option<&'static str>,
    options: Vec<OsString>,
    file: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    cached: bool,
}

impl Atoll {
    /// `atoll run` on a guest given as text or as a binary, whose program is called `main`.
    pub fn run(guest: impl AsRef<[u8]>) -> Atoll {
        let mut atoll = Atoll::subcommand("run");
        let path = atoll.folder.path().join("main.wat");
        std::fs::write(&path, guest).expect("the temporary folder can be written to");
        atoll.file = Some(path);
        atoll
    }

    /// `atoll run` on a file.
    pub fn run_file(path: impl Into<PathBuf>) -> Atoll {
        let mut atoll = Atoll::subcommand("run");
        atoll.file = Some(path.into());
        atoll
    }

    /// `atoll inspect` on a guest given as text or as a binary.
    pub fn inspect(guest: impl AsRef<[u8]>) -> Atoll {
        let mut atoll = Atoll::run(guest);
        atoll.subcommand = Some("inspect");
        atoll
    }

    /// `atoll` with these words and nothing else.
    pub fn words<Word: Into<OsString>>(words: impl IntoIterator<Item = Word>) -> Atoll {
        let mut atoll = Atoll::subcommand("run");
        atoll.subcommand = None;
        atoll.args = words.into_iter().map(Into::into).collect();
        atoll
    }

    fn subcommand(name: &'static str) -> Atoll {
        Atoll {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            subcommand: Some(name),
            options: Vec::new(),
            file: None,
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            cached: false,
        }
    }

    /// A word in front of the file.
    pub fn option(mut self, word: impl Into<OsString>) -> Atoll {
        self.options.push(word.into());
        self
    }

    /// Words in front of the file.
    pub fn options<Word: Into<OsString>>(mut self, words: impl IntoIterator<Item = Word>) -> Atoll {
        self.options.extend(words.into_iter().map(Into::into));
        self
    }

    /// A word behind the file.
    pub fn arg(mut self, word: impl Into<OsString>) -> Atoll {
        self.args.push(word.into());
        self
    }

    /// Registers another guest as a program of this name.
    pub fn program(self, name: &str, guest: impl AsRef<[u8]>) -> Atoll {
        let path = self.folder.path().join(format!("{name}.wat"));
        std::fs::write(&path, guest).expect("the temporary folder can be written to");
        let mut word = OsString::from(format!("{name}="));
        word.push(path);
        self.option("--program").option(word)
    }

    /// What the program reads from standard input, which is empty otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Atoll {
        self.stdin = bytes.into();
        self
    }

    /// A variable of the program's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Atoll {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Keeps compiled code on disk, where the environment says.
    pub fn cached(mut self) -> Atoll {
        self.cached = true;
        self
    }

    /// The folder that holds the run's files, for a test to put some of its own there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs it to its end.
    pub fn outcome(self) -> Outcome {
        self.start().outcome()
    }

    /// Runs it to its end with a reader of standard output that goes away after so many bytes.
    pub fn outcome_if_output_closes_after(self, stdout_bytes: usize) -> Outcome {
        self.start_with(stdout_bytes).outcome()
    }

    /// Starts it, for a test to do something meanwhile.
    pub fn start(self) -> Running {
        self.start_with(usize::MAX)
    }

    fn start_with(self, stdout_bytes: usize) -> Running {
        let mut command = self.command();
        let words = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{words}: {error}; run `cargo xtask test`, or set ATOLL_BIN")
        });
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let input = self.stdin.clone();
        std::thread::spawn(move || {
            // A program that ends without reading has no use for it.
            let _ = stdin.write_all(&input);
        });
        let stdout = child.stdout.take().expect("it is a pipe");
        let stderr = child.stderr.take().expect("it is a pipe");
        Running {
            _files: self,
            words,
            child,
            stdout: Stream::read(stdout, stdout_bytes),
            stderr: Stream::read(stderr, usize::MAX),
            deadline: Instant::now() + HANG,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(found(
            "ATOLL_BIN",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/atoll"),
        ));
        command
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .args(self.subcommand);
        if self.subcommand == Some("run") && !self.cached {
            command.arg("--no-cache");
        }
        command
            .args(&self.options)
            .args(&self.file)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A program that runs. One that is dropped without its outcome is killed.
pub struct Running {
    _files: Atoll,
    words: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    deadline: Instant,
}

impl Running {
    /// Waits until standard output holds this text.
    #[track_caller]
    pub fn until_stdout(&mut self, text: &str) {
        if !self.stdout.wait(|read| read.has(text), self.deadline) {
            self.give_up(&format!("standard output never holds {text:?}"));
        }
    }

    /// Waits until standard error holds this text.
    #[track_caller]
    pub fn until_stderr(&mut self, text: &str) {
        if !self.stderr.wait(|read| read.has(text), self.deadline) {
            self.give_up(&format!("standard error never holds {text:?}"));
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the program has not been waited for");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        // Standard error is closed when the program ends, and not before.
        let is_over = |stream: &Stream| stream.wait(|read| read.is_over, self.deadline);
        if !is_over(&self.stderr) || !is_over(&self.stdout) {
            self.give_up("the program hangs");
        }
        let status = self.child.wait().expect("the program is this one's child");
        self.outcome_with(status.code())
    }

    fn outcome_with(&self, code: Option<i32>) -> Outcome {
        Outcome {
            command: self.words.clone(),
            code,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    #[track_caller]
    fn give_up(&mut self, why: &str) -> ! {
        let _ = self.child.kill();
        let _ = self.child.wait();
        panic!("{why}\n{}", self.outcome_with(None));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a thread reads from a pipe.
#[derive(Clone, Default)]
struct Stream(Arc<(Mutex<Read>, Condvar)>);

#[derive(Default)]
struct Read {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Read {
    fn has(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.bytes.windows(text.len()).any(|part| part == text)
    }
}

impl Stream {
    /// Reads until the end, or so many bytes; then the pipe is closed.
    fn read(pipe: impl io::Read + Send + 'static, bytes_max: usize) -> Stream {
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

    fn change(&self, change: impl FnOnce(&mut Read)) {
        let (read, changed) = &*self.0;
        change(&mut read.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// Waits until this is so. False if it never will be, or the deadline has come.
    fn wait(&self, is_so: impl Fn(&Read) -> bool, deadline: Instant) -> bool {
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

    fn text(&self) -> String {
        let (read, _) = &*self.0;
        let read = read.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&read.bytes).into_owned()
    }
}

/// A guest of this repository, built by `cargo xtask guests`.
pub fn built_guest(name: &str) -> PathBuf {
    let folder = found(
        "ATOLL_GUESTS",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guests"),
    );
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo xtask guests`",
        path.display()
    );
    path
}

fn found(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable)
        .as_deref()
        .unwrap_or(OsStr::new(default))
        .into()
}
