//! The WASI context of one process, made from what its system grants.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_chacha::rand_core::TryRng;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{
    FsPerms, HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder, WasiView,
};

use super::grants::{DirGrant, Grants, NetGrant, WasiError, WasiErrorKind};
use super::input::GuestInput;
use super::lines::{GuestOutput, Meter};
use super::output::{Output, lock};
use super::preview1::{Preview1, SPECIAL_MAX};
use super::{HostBudget, Seam};
use tokio::sync::Semaphore;

/// The most random bytes of one preview 2 call. The host makes and holds them in one go, which takes less than 10 ms.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Each process has these handles without their being counted: the standard streams and their terminals.
const STANDARD_HANDLES: usize = 6;

/// The sets of directories that are kept open for processes that see only some.
const SETS_MAX: usize = 64;

/// The host opens and closes this many handles on behalf of a process, beyond the process's own.
const OWN_HANDLES: usize = 8;

/// Random bytes drawn from the seam at a time. The generators ask for four bytes at a time.
const RANDOM_BUFFER_BYTES: usize = 64;

/// The part of WASI that one system grants its processes.
pub struct Wasi {
    grants: Grants,
    net: Arc<NetGrant>,
    /// The granted directories, already open. Contexts share them, so that making one needs no file descriptor.
    directories: WasiFilesystemCtx,
    /// The same for processes that see some of them only, by their indexes among the grants: at most [`SETS_MAX`].
    some: Mutex<HashMap<Vec<usize>, WasiFilesystemCtx>>,
    output: Output,
    seam: Arc<dyn Seam>,
    /// Permits for operations on FIFOs and devices.
    special: Arc<Semaphore>,
    /// Each context holds a clone, so the reference count is the number of contexts.
    contexts: Arc<()>,
}

/// The part of a system's grants that one process has.
pub struct Part {
    /// The most handles that it may hold at a time.
    pub handles_max: usize,
    /// None if nothing but the system bounds it.
    pub budget: Option<Arc<dyn HostBudget>>,
    /// The paths of the directories that it sees. None for all.
    pub directories: Option<Arc<[Box<str>]>>,
    /// The network addresses that it may use beside being granted them. None for all.
    pub network: Option<Arc<NetGrant>>,
    /// Does it see the environment variables?
    pub environment: bool,
    /// Does it read the host's standard input?
    pub standard_input: bool,
}

impl Wasi {
    /// All that the system grants.
    #[cfg(test)]
    pub(super) fn whole(&self) -> Part {
        Part {
            handles_max: self.grants.handles_max,
            budget: None,
            directories: None,
            network: None,
            environment: true,
            standard_input: true,
        }
    }

    /// Fills the buffer with random bytes that a guest may use for secrets.
    pub(crate) fn fill_random(&self, buffer: &mut [u8]) {
        self.seam.fill_random(buffer);
    }

    /// Checks the grants, opens the directories and starts the output.
    ///
    /// # Errors
    ///
    /// If a directory can't be opened, if a name is given twice, if an argument or an environment variable can't be passed on, or
    /// if the output gets no thread.
    pub fn new(grants: Grants, output: Output, seam: Arc<dyn Seam>) -> Result<Wasi, WasiError> {
        check_texts(&grants)?;
        let directories = open_directories(&grants.dirs)?;
        output.start().map_err(|error| {
            WasiError::new(
                WasiErrorKind::Thread,
                format!("no thread for the output can be started: {error}"),
                "raise the limit of threads (`ulimit -u`), or end other programs",
            )
        })?;
        Ok(Wasi {
            net: Arc::new(grants.net.clone()),
            grants: Grants {
                env: without_duplicates(&grants.env),
                ..grants
            },
            directories,
            some: Mutex::default(),
            output,
            seam,
            special: Arc::new(Semaphore::new(SPECIAL_MAX)),
            contexts: Arc::new(()),
        })
    }

    /// A clone of the counter of contexts, for a context to hold.
    pub fn counted(&self) -> Arc<()> {
        self.contexts.clone()
    }

    /// The number of contexts. Each may have open handles.
    pub fn contexts_open(&self) -> usize {
        Arc::strong_count(&self.contexts) - 1
    }

    /// A context for a process that runs a core module.
    pub fn preview1(&self, part: &Part) -> Preview1 {
        let mut context = self.builder(part).build_p1();
        let view = context.ctx();
        *view.ctx.filesystem() = self.directories(part);
        view.table
            .set_max_capacity(self.table_capacity(part).saturating_add(OWN_HANDLES));
        let blocking = part.budget.as_ref().map(|budget| budget.blocking());
        Preview1::new(
            context,
            self.special.clone(),
            blocking.unwrap_or_default(),
            self.table_capacity(part),
        )
    }

    /// A context, and the table of its handles, for a process that runs a component.
    pub fn preview2(&self, part: &Part) -> (WasiCtx, ResourceTable) {
        let mut context = self.builder(part).build();
        *context.filesystem() = self.directories(part);
        let mut table = ResourceTable::new();
        table.set_max_capacity(self.table_capacity(part));
        (context, table)
    }

    /// Opens the directories for processes that see only these, so that [`Wasi::preview1`] and [`Wasi::preview2`] find
    /// them.
    ///
    /// # Errors
    ///
    /// If the operating system refuses to open one of them.
    pub fn open_some(&self, paths: &Arc<[Box<str>]>) -> Result<(), WasiError> {
        let seen = self.seen(paths);
        let mut some = lock(&self.some);
        if some.contains_key(&seen) {
            return Ok(());
        }
        if some.len() >= SETS_MAX {
            return Err(WasiError::new(
                WasiErrorKind::Directory,
                format!("there are {SETS_MAX} sets of directories already"),
                "pass on the same directories to more processes",
            ));
        }
        let grants = seen.iter().map(|index| self.grants.dirs[*index].clone());
        let opened = open_directories(&grants.collect::<Vec<_>>())?;
        some.insert(seen, opened);
        Ok(())
    }

    /// The indexes of the granted directories with these paths.
    fn seen(&self, paths: &[Box<str>]) -> Vec<usize> {
        let dirs = self.grants.dirs.iter().enumerate();
        let seen = dirs.filter(|(_, grant)| paths.iter().any(|path| **path == *grant.guest));
        seen.map(|(index, _)| index).collect()
    }

    fn directories(&self, part: &Part) -> WasiFilesystemCtx {
        match &part.directories {
            None => self.directories.clone(),
            Some(paths) => {
                let seen = self.seen(paths);
                lock(&self.some).get(&seen).cloned().unwrap_or_default()
            }
        }
    }

    fn table_capacity(&self, part: &Part) -> usize {
        STANDARD_HANDLES
            .saturating_add(self.grants.dirs.len())
            .saturating_add(part.handles_max)
    }

    fn builder(&self, part: &Part) -> WasiCtxBuilder {
        let meter = part.budget.clone().map(|budget| Meter {
            budget,
            seam: self.seam.clone(),
        });
        let [stdout, stderr] = GuestOutput::both(&self.output, meter);
        let net = match &part.network {
            Some(passed_on) => Arc::new(self.net.only(passed_on)),
            None => self.net.clone(),
        };
        let mut seed = [0; 16];
        self.seam.fill_random(&mut seed);

        let mut builder = WasiCtxBuilder::new();
        builder
            // This is the default, but everything depends on it: file operations go to tokio's blocking pool.
            .allow_blocking_current_thread(false)
            .args(&self.grants.args)
            .envs(if part.environment {
                &self.grants.env
            } else {
                &[]
            })
            .allow_tcp(*net != NetGrant::None)
            .allow_udp(*net != NetGrant::None)
            .allow_ip_name_lookup(*net == NetGrant::All)
            .monotonic_clock(SeamClock(self.seam.clone()))
            .wall_clock(SeamClock(self.seam.clone()))
            .secure_random(SeamRandom::new(self.seam.clone()))
            .insecure_random(SeamRandom::new(self.seam.clone()))
            .insecure_random_seed(u128::from_le_bytes(seed))
            .max_random_size(RANDOM_BYTES_MAX)
            .socket_addr_check(move |address, usage| {
                let permitted = net.permits(address, usage);
                Box::pin(async move { permitted })
            });
        if self.grants.stdin && part.standard_input {
            builder.stdin(GuestInput {
                prompts: stdout.clone(),
            });
        }
        builder.stdout(stdout).stderr(stderr);
        builder
    }
}

impl fmt::Debug for Wasi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Wasi")
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// Guests get arguments and variables as strings that end in NUL, and variables as `NAME=VALUE`.
fn check_texts(grants: &Grants) -> Result<(), WasiError> {
    let error =
        |message: String, hint: &str| Err(WasiError::new(WasiErrorKind::Text, message, hint));
    for argument in &grants.args {
        if argument.contains('\0') {
            return error(
                format!("the argument {argument:?} holds a NUL"),
                "leave the NUL out",
            );
        }
    }
    for (name, value) in &grants.env {
        if name.contains('\0') || value.contains('\0') {
            return error(
                format!("the environment variable {name:?} holds a NUL"),
                "leave the NUL out",
            );
        }
        if name.is_empty() || name.contains('=') {
            return error(
                format!("{name:?} can't be the name of an environment variable"),
                "a name is not empty and has no `=`",
            );
        }
    }
    Ok(())
}

/// Keeps the last value of each name. wasmtime-wasi would pass on all, and most guests take the first.
fn without_duplicates(env: &[(String, String)]) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    let mut kept: Vec<_> = env
        .iter()
        .rev()
        .filter(|(name, _)| seen.insert(name.as_str()))
        .cloned()
        .collect();
    kept.reverse();
    kept
}

fn open_directories(grants: &[DirGrant]) -> Result<WasiFilesystemCtx, WasiError> {
    let mut builder = WasiCtxBuilder::new();
    let mut names = HashSet::new();
    for grant in grants {
        if !names.insert(grant.guest.as_str()) {
            return Err(WasiError::new(
                WasiErrorKind::Directory,
                format!("two directories are granted as `{}`", grant.guest),
                "give each a name of its own: HOST::GUEST",
            ));
        }
        let permissions = if grant.writable {
            FsPerms::ReadWrite
        } else {
            FsPerms::ReadOnly
        };
        builder
            .preopened_dir(&grant.host, &grant.guest, permissions)
            .map_err(|error| directory_error(&grant.host, &error))?;
    }
    Ok(builder.build().filesystem().clone())
}

fn directory_error(path: &Path, error: &wasmtime::Error) -> WasiError {
    let kind = error.downcast_ref().map(io::Error::kind);
    let (message, hint) = match kind {
        Some(io::ErrorKind::NotFound) => ("does not exist", "make it, or grant another one"),
        Some(io::ErrorKind::NotADirectory) => {
            ("is not a directory", "grant the directory that it is in")
        }
        Some(io::ErrorKind::PermissionDenied) => (
            "may not be read",
            "ask for access to it, or grant another one",
        ),
        _ => ("can't be opened", "grant another one"),
    };
    let message = match kind {
        Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            format!("`{}` {message}", path.display())
        }
        _ => format!("the directory `{}` {message}: {error}", path.display()),
    };
    WasiError::new(WasiErrorKind::Directory, message, hint)
}

struct SeamClock(Arc<dyn Seam>);

impl HostMonotonicClock for SeamClock {
    fn resolution(&self) -> u64 {
        self.0.resolution_ns()
    }

    fn now(&self) -> u64 {
        self.0.now()
    }
}

impl HostWallClock for SeamClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(self.0.resolution_ns())
    }

    fn now(&self) -> Duration {
        self.0.wall()
    }
}

struct SeamRandom {
    seam: Arc<dyn Seam>,
    buffer: [u8; RANDOM_BUFFER_BYTES],
    used_bytes: usize,
}

impl SeamRandom {
    fn new(seam: Arc<dyn Seam>) -> SeamRandom {
        SeamRandom {
            seam,
            buffer: [0; RANDOM_BUFFER_BYTES],
            used_bytes: RANDOM_BUFFER_BYTES,
        }
    }

    /// Takes the next bytes of the buffer. Refills it from the seam when it holds too few.
    fn draw<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        if RANDOM_BUFFER_BYTES - self.used_bytes < COUNT {
            self.seam.fill_random(&mut self.buffer);
            self.used_bytes = 0;
        }
        let (drawn, _) = self.buffer[self.used_bytes..]
            .split_first_chunk()
            .expect("the buffer was refilled");
        self.used_bytes += COUNT;
        *drawn
    }
}

impl TryRng for SeamRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.draw()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.draw()))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        self.seam.fill_random(buffer);
        Ok(())
    }
}
