//! The program `atoll`, run once for each check.

use crate::Outcome;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
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
        self.end(Reader::Whole)
    }

    /// Runs it to its end with a reader of standard output that goes away after so many bytes.
    pub fn outcome_if_output_closes_after(self, stdout_bytes: usize) -> Outcome {
        self.end(Reader::Until(stdout_bytes))
    }

    fn end(self, reader: Reader) -> Outcome {
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
        let stdout = read(child.stdout.take().expect("it is a pipe"), reader);
        let stderr = read(child.stderr.take().expect("it is a pipe"), Reader::Whole);

        // Standard error is closed when the program ends, and not before.
        let deadline = Instant::now() + HANG;
        let stderr = text(&mut child, &stderr, deadline, &words);
        let stdout = text(&mut child, &stdout, deadline, &words);
        let status = child.wait().expect("the program is this one's child");
        Outcome {
            command: words,
            code: status.code(),
            stdout,
            stderr,
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

/// How much of a stream is read before it is closed.
enum Reader {
    Whole,
    Until(usize),
}

fn read(mut stream: impl Read + Send + 'static, reader: Reader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = match reader {
            Reader::Whole => stream.read_to_end(&mut bytes).map(drop),
            Reader::Until(count) => {
                bytes.resize(count, 0);
                stream.read_exact(&mut bytes)
            }
        };
        drop(stream);
        // Nobody waits any more when the test has failed.
        let _ = sender.send(bytes);
    });
    receiver
}

/// What a stream's reader has read; ends a program that goes on for too long.
fn text(child: &mut Child, stream: &Receiver<Vec<u8>>, deadline: Instant, words: &str) -> String {
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(bytes) = stream.recv_timeout(left) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("the program hangs: {words}");
    };
    String::from_utf8_lossy(&bytes).into_owned()
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
