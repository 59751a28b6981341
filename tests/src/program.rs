//! The program `atoll`, run once for each check.

use crate::Outcome;
use crate::pipes::Stream;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A program that has not ended after this time hangs. The slowest test takes a few seconds on an idle machine.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// One run of the program `atoll`, with the files that it needs. Dropping it removes the files.
///
/// Compiled code is not cached unless [`Atoll::cached`] says so, and the environment contains only what [`Atoll::env`] adds.
pub struct Atoll {
    folder: TempDir,
    subcommand: Option<&'static str>,
    options: Vec<OsString>,
    file: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    /// Standard input, output and error, if they are not pipes of the test's own.
    files: [Option<OwnedFd>; 3],
    shell: Option<String>,
    cached: bool,
}

impl Atoll {
    /// `atoll run` on a guest given as text or as a binary. The program is called `main`.
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

    /// `atoll` with only these words.
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
            files: [const { None }; 3],
            shell: None,
            cached: false,
        }
    }

    /// Adds a word before the file.
    pub fn option(mut self, word: impl Into<OsString>) -> Atoll {
        self.options.push(word.into());
        self
    }

    /// Adds words before the file.
    pub fn options<Word: Into<OsString>>(mut self, words: impl IntoIterator<Item = Word>) -> Atoll {
        self.options.extend(words.into_iter().map(Into::into));
        self
    }

    /// Adds a word after the file.
    pub fn arg(mut self, word: impl Into<OsString>) -> Atoll {
        self.args.push(word.into());
        self
    }

    /// Registers another guest as a program with this name.
    pub fn program(self, name: &str, guest: impl AsRef<[u8]>) -> Atoll {
        let path = self.folder.path().join(format!("{name}.wat"));
        std::fs::write(&path, guest).expect("the temporary folder can be written to");
        let mut word = OsString::from(format!("{name}="));
        word.push(path);
        self.option("--program").option(word)
    }

    /// Sets the bytes of standard input, which is empty otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Atoll {
        self.stdin = bytes.into();
        self
    }

    /// Takes standard input from this file or pipe.
    pub fn stdin_from(mut self, file: impl Into<OwnedFd>) -> Atoll {
        self.files[0] = Some(file.into());
        self
    }

    /// Sends standard output to this file or pipe. The outcome doesn't contain it.
    pub fn stdout_to(mut self, file: impl Into<OwnedFd>) -> Atoll {
        self.files[1] = Some(file.into());
        self
    }

    /// Sends standard error to this file or pipe. The outcome doesn't contain it.
    pub fn stderr_to(mut self, file: impl Into<OwnedFd>) -> Atoll {
        self.files[2] = Some(file.into());
        self
    }

    /// Runs these commands in a shell that then becomes the program. They can set limits and signals, which the program inherits.
    pub fn after(mut self, shell: impl Into<String>) -> Atoll {
        self.shell = Some(shell.into());
        self
    }

    /// Sets a variable of the program's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Atoll {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Caches compiled code on disk, in the place that the environment names.
    pub fn cached(mut self) -> Atoll {
        self.cached = true;
        self
    }

    /// The folder with the run's files. A test may put files of its own there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program to its end.
    pub fn outcome(self) -> Outcome {
        self.start().outcome()
    }

    /// Runs the program to its end with a reader that closes standard output after this many bytes.
    pub fn outcome_if_output_closes_after(self, stdout_bytes: usize) -> Outcome {
        self.start_with(stdout_bytes).outcome()
    }

    /// Starts the program.
    pub fn start(self) -> Running {
        self.start_with(usize::MAX)
    }

    fn start_with(mut self, stdout_bytes: usize) -> Running {
        reset_signals();
        let mut command = self.command();
        let words = format!("{command:?}");
        let [stdin, stdout, stderr] =
            std::mem::take(&mut self.files).map(|file| file.map_or_else(Stdio::piped, Stdio::from));
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{words}: {error}; run `cargo xtask test`, or set ATOLL_BIN")
        });
        // Now only the program has the pipes, so they end with it.
        drop(command);
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.stdin.clone();
            std::thread::spawn(move || {
                // A program may end without reading its input.
                let _ = stdin.write_all(&input);
            });
        }
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        Running {
            _files: self,
            words,
            child,
            stdout: stdout.map_or_else(Stream::none, |pipe| Stream::read(pipe, stdout_bytes)),
            stderr: stderr.map_or_else(Stream::none, |pipe| Stream::read(pipe, usize::MAX)),
            deadline: Instant::now() + HANG,
        }
    }

    fn command(&self) -> Command {
        let program = found(
            "ATOLL_BIN",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/atoll"),
        );
        let mut command = match &self.shell {
            None => Command::new(program),
            Some(first) => {
                let mut shell = Command::new("/bin/sh");
                shell
                    .arg("-c")
                    .arg(format!("{first} && exec \"$0\" \"$@\""))
                    .arg(program);
                shell
            }
        };
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
            .args(&self.args);
        command
    }
}

/// Lets children begin with the default action of the signals that ask for an end. Children inherit ignored signals, which shells
/// set for programs in the background, but they don't inherit handlers.
fn reset_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let always = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_default(signal, always)
                .expect("this signal may be handled");
        }
    });
}

/// A running program. Dropping it without taking its outcome kills it.
pub struct Running {
    _files: Atoll,
    words: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    deadline: Instant,
}

impl Running {
    /// Waits until standard output contains this text.
    #[track_caller]
    pub fn until_stdout(&mut self, text: &str) {
        if !self.stdout.wait(|read| read.has(text), self.deadline) {
            self.give_up(&format!("standard output never holds {text:?}"));
        }
    }

    /// Waits until standard error contains this text.
    #[track_caller]
    pub fn until_stderr(&mut self, text: &str) {
        if !self.stderr.wait(|read| read.has(text), self.deadline) {
            self.give_up(&format!("standard error never holds {text:?}"));
        }
    }

    /// The number of the program's mappings.
    #[track_caller]
    pub fn mappings(&self) -> usize {
        let path = format!("/proc/{}/maps", self.child.id());
        let maps = std::fs::read_to_string(path).expect("the program runs");
        maps.lines().count()
    }

    /// The program's peak memory so far, in bytes. The program must not have ended.
    #[track_caller]
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the program has not been waited for");
        let peak = status.lines().find_map(|line| {
            let kibibytes = line.strip_prefix("VmHWM:")?.strip_suffix(" kB")?;
            kibibytes.trim().parse::<u64>().ok()
        });
        peak.expect("a program that runs holds memory") << 10
    }

    /// Sends the program a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the program has not been waited for");
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        // Standard error is closed only when the program ends.
        let is_over = |stream: &Stream| stream.wait(|read| read.is_over, self.deadline);
        if !is_over(&self.stderr) || !is_over(&self.stdout) {
            self.give_up("the program hangs");
        }
        let status = self.end();
        self.outcome_with(Some(status))
    }

    /// Waits for the end of the program itself, which may have closed its output before.
    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())
            .expect("the program has not been waited for");
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (ended, end) = channel::<()>();
        let guard = std::thread::spawn(move || {
            let hangs = end.recv_timeout(left) == Err(RecvTimeoutError::Timeout);
            if hangs {
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
            hangs
        });
        let status = self.child.wait().expect("the program is this one's child");
        drop(ended);
        if guard.join().expect("it does not panic") {
            self.give_up("the program hangs");
        }
        status
    }

    fn outcome_with(&self, status: Option<ExitStatus>) -> Outcome {
        Outcome {
            command: self.words.clone(),
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
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
        // The program has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a guest of this repository, built by `cargo xtask guests`.
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
