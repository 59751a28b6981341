//! Asks another process to compile, and reports the result.

use super::CompileKind;
use super::worker::{OVER_MEMORY, OVER_TIME, REFUSED};
use crate::rewriter::{LoadError, LoadErrorKind};
use crate::system::Config;
use crate::text::printable_lines;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The program that compiles, and its limits.
pub(super) struct Apart {
    program: PathBuf,
    time_max: Duration,
    memory_max: u64,
}

impl Apart {
    pub(super) fn new(config: &Config) -> Option<Apart> {
        Some(Apart {
            program: config.compiler.clone()?,
            time_max: config.max_compile_time,
            memory_max: config.max_compile_memory,
        })
    }

    /// Has a process of its own compile these bytes, and returns the code. Blocks until it is there.
    pub(super) fn compile(&self, kind: CompileKind, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let output = self.ask(kind, bytes).map_err(|error| {
            let program = self.program.display();
            let text = format!("the compiler (`{program}`) can't be run: {error}");
            LoadError::new(LoadErrorKind::Compile, text)
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = printable_lines(String::from_utf8_lossy(&output.stderr).trim());
        Err(match output.status.code() {
            Some(REFUSED) => LoadError::new(LoadErrorKind::Compile, said),
            Some(OVER_TIME) => self.too_costly("processor time", &self.time_text(), &said),
            Some(OVER_MEMORY) => self.too_costly("memory", &self.memory_text(), &said),
            code => {
                let how = match (code, output.status.signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, signal) => format!("signal {}", signal.unwrap_or_default()),
                };
                let text = format!("the compiler has failed ({how}): {said}");
                LoadError::new(LoadErrorKind::Compile, text)
            }
        })
    }

    fn ask(&self, kind: CompileKind, bytes: &[u8]) -> io::Result<Output> {
        let mut process = Command::new(&self.program)
            .arg0("atoll")
            .args(["compile", kind.name()])
            .arg(milliseconds(self.time_max).to_string())
            .arg(self.memory_max.to_string())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // The process reads all input before it writes. If it does not read, it has ended, and its status says why.
        let input = process.stdin.take();
        let _ = input.map(|mut input| input.write_all(bytes));
        process.wait_with_output()
    }

    fn too_costly(&self, what: &str, most: &str, said: &str) -> LoadError {
        let text = match said {
            "" => format!("it takes more {what} than {most}"),
            functions => format!("it takes more {what} than {most}, and is still at {functions}"),
        };
        LoadError::new(LoadErrorKind::TooCostly, text)
    }

    fn time_text(&self) -> String {
        format!("{:?}", self.time_max)
    }

    fn memory_text(&self) -> String {
        format!("{} MiB", self.memory_max >> 20)
    }
}

/// A time in whole milliseconds. A time that does not fit becomes the largest number, which is as good as no limit.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
