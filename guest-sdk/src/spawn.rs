//! Spawning processes: of a function of this program, or of one that any program exports by name.
//!
//! A new process is a new instance of the program and shares nothing with its parent, so the parent can't call a function in it.
//! Instead the parent sends the function's index in the program's table, which is the same in every instance, and the argument:
//!
//! ```text
//! parent                                   child
//! spawn(worker, job)                       export "atoll-guest:start"
//!   index of trampoline::<worker>            splits the argument
//!   + job in postcard          ─ copied ─▶   calls the table's entry ─▶ trampoline ─▶ worker(job)
//! ```

use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::atoll_rt::process::spawning::{self, SpawnOption};
use crate::{Outcome, Pid, Priority, Reference, codec, make_reference, process};

/// The exported function in which every process of [`Spawn::function`] begins. The colon keeps it apart from the names of a
/// program's own functions.
const START: &str = "atoll-guest:start";

/// Starts a process that runs `function(argument)`, and returns its pid at once. OTP: `spawn/3`.
///
/// The function is any `fn` item, or a closure that captures nothing. The argument is copied: anything that serde can write and
/// read, or `()`. For the return type see [`Outcome`].
///
/// Errors: the system has reached its limit of processes or memory, or the argument is larger than a message may be. If this
/// returns a pid, the process has really started.
///
/// Panics if the argument refuses to be serialized. Derived implementations never do.
///
/// ```no_run
/// fn worker(name: String) {
///     atoll_guest::println!("{name} at work");
/// }
///
/// let pid = atoll_guest::spawn(worker, "Joe".to_string())?;
/// # Ok::<(), atoll_guest::SpawnError>(())
/// ```
pub fn spawn<F, A, R>(function: F, argument: A) -> Result<Pid, SpawnError>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Outcome,
{
    start_function(function, argument, &[])
}

/// [Spawns](spawn) a process and links it to the calling one, in one step, so that it can't end before it is linked. When one of
/// the two ends, the other gets an exit signal: see [`link`](crate::link). OTP: `spawn_link/3`.
///
/// Errors: as for [`spawn`].
pub fn spawn_link<F, A, R>(function: F, argument: A) -> Result<Pid, SpawnError>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Outcome,
{
    start_function(function, argument, &[SpawnOption::Link])
}

/// [Spawns](spawn) a process and monitors it, in one step. When it ends, a down signal with the reference arrives: see
/// [`receive_down`](crate::receive_down). OTP: `spawn_monitor/3`.
///
/// Errors: as for [`spawn`].
pub fn spawn_monitor<F, A, R>(function: F, argument: A) -> Result<(Pid, Reference), SpawnError>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Outcome,
{
    let monitor = make_reference();
    let pid = start_function(function, argument, &[SpawnOption::Monitor(monitor)])?;
    Ok((pid, monitor))
}

/// Starts processes with options. OTP: `spawn_opt/4`.
///
/// ```no_run
/// # fn worker(job: u32) {}
/// use atoll_guest::Spawn;
///
/// let pid = Spawn::new().label("worker 1").max_memory(4 << 20).function(worker, 17)?;
/// # Ok::<(), atoll_guest::SpawnError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Spawn {
    options: Vec<SpawnOption>,
}

impl Spawn {
    /// No options: no label, and the system's own limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Links the new process to the calling one before it begins: see [`spawn_link`].
    pub fn link(self) -> Self {
        self.with(SpawnOption::Link)
    }

    /// Monitors the new process before it begins. The down signal carries this reference. Make a new reference by
    /// [`make_reference`] for each monitor. Without other options, use [`spawn_monitor`].
    pub fn monitor(self, monitor: Reference) -> Self {
        self.with(SpawnOption::Monitor(monitor))
    }

    /// Registers the new process under a name of 1 to 255 bytes before other processes can see it: see
    /// [`register`](crate::register). If another process has the name, nothing is spawned.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(SpawnOption::Name(name.into()))
    }

    /// The process's priority, until it changes it by [`set_priority`](crate::set_priority).
    pub fn priority(self, priority: Priority) -> Self {
        self.with(SpawnOption::Priority(priority))
    }

    /// A text that identifies the process in reports. At most 255 bytes of it are kept.
    pub fn label(self, text: impl Into<String>) -> Self {
        self.with(SpawnOption::Label(text.into()))
    }

    pub(crate) fn with(mut self, option: SpawnOption) -> Self {
        self.options.push(option);
        self
    }

    /// Starts a process that runs a function of this program: see [`spawn`].
    pub fn function<F, A, R>(&self, function: F, argument: A) -> Result<Pid, SpawnError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Outcome,
    {
        start_function(function, argument, &self.options)
    }

    /// Starts a process that runs a function which this program exports by name, for example by [`export!`](crate::export). The
    /// empty name stands for the program's entry.
    pub fn named<A>(&self, function: &str, argument: &A) -> Result<Pid, SpawnError>
    where
        A: Serialize + ?Sized,
    {
        codec::with_encoded(argument, |bytes| self.named_bytes(function, bytes))
    }

    /// The same, with an argument that the caller has encoded.
    pub fn named_bytes(&self, function: &str, argument: &[u8]) -> Result<Pid, SpawnError> {
        start_exported(None, function, argument, &self.options)
    }

    /// Selects another program. Its functions are spawned by name.
    pub fn program(self, name: impl Into<String>) -> SpawnIn {
        SpawnIn {
            spawn: self,
            program: name.into(),
        }
    }
}

/// Starts processes of another program, which the host knows by a name (`atoll run --program NAME=PATH`). [`Spawn::program`]
/// makes it.
#[derive(Clone, Debug)]
pub struct SpawnIn {
    spawn: Spawn,
    program: String,
}

impl SpawnIn {
    /// Starts a process that runs a function which that program exports by name. The empty name stands for its entry.
    pub fn named<A>(&self, function: &str, argument: &A) -> Result<Pid, SpawnError>
    where
        A: Serialize + ?Sized,
    {
        codec::with_encoded(argument, |bytes| self.named_bytes(function, bytes))
    }

    /// The same, with an argument in the caller's own encoding, for example that of the program's language.
    pub fn named_bytes(&self, function: &str, argument: &[u8]) -> Result<Pid, SpawnError> {
        start_exported(Some(&self.program), function, argument, &self.spawn.options)
    }
}

/// Every spawn of a function comes here. Without options, and with a small argument, it allocates nothing.
fn start_function<F, A, R>(
    function: F,
    argument: A,
    options: &[SpawnOption],
) -> Result<Pid, SpawnError>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Outcome,
{
    let (_, index) = (function, trampoline_index::<F, A, R>());
    codec::with_encoded(&(index.to_le_bytes(), argument), |bytes| {
        start_exported(None, START, bytes, options)
    })
}

fn start_exported(
    program: Option<&str>,
    function: &str,
    argument: &[u8],
    options: &[SpawnOption],
) -> Result<Pid, SpawnError> {
    spawning::spawn(program, function, argument, options).map_err(SpawnError::from)
}

/// The type of the table's functions for spawning. They take the argument, and numbers that mean nothing.
///
/// The numbers give the function a type that hardly any other function has. A process may have been started with a forged
/// argument, and wasm checks only the type of a function that is called through the table.
type Trampoline = extern "C" fn(argument: &mut Vec<u8>, f64, f32, f64, f32);

/// The offset of the encoded value in the argument, after the index.
const VALUE_OFFSET: usize = size_of::<u32>();

/// The index of the trampoline that calls a function of this type, in the program's table.
fn trampoline_index<F, A, R>() -> u32
where
    F: Fn(A) -> R + Copy + 'static,
    A: DeserializeOwned,
    R: Outcome,
{
    let trampoline: Trampoline = trampoline::<F, A, R>;
    // On wasm, a function's address is its index in the table. On other targets spawning is impossible.
    trampoline as usize as u32
}

/// Runs in the child: reads the argument and calls the function.
extern "C" fn trampoline<F, A, R>(argument: &mut Vec<u8>, _: f64, _: f32, _: f64, _: f32)
where
    F: Fn(A) -> R + Copy + 'static,
    A: DeserializeOwned,
    R: Outcome,
{
    const {
        assert!(
            size_of::<F>() == 0,
            "a process runs a function, not a function pointer or a closure that captures something: name the function \
             itself, and pass in its argument what it needs"
        );
    }
    // SAFETY: `F` has no bytes, so there is nothing to initialize. `F` has a value, since the parent was given one, and `F` is
    // `Copy`, so it may have another.
    let function = unsafe { std::mem::zeroed::<F>() };
    let decoded = codec::decode(&argument[VALUE_OFFSET..]);
    // The function may run for ever, so free the bytes first.
    drop(std::mem::take(argument));
    match decoded {
        Ok(value) => function(value).finish(),
        Err(error) => panic!(
            "the argument of `{}` can't be read: {error}",
            std::any::type_name::<F>()
        ),
    }
}

/// Every process of [`Spawn::function`] begins here.
#[unsafe(export_name = "atoll-guest:start")]
extern "C" fn start() {
    process::enter(|| {
        let mut argument = process::argument_bytes();
        let index = argument
            .first_chunk()
            .map_or(0, |index| u32::from_le_bytes(*index));
        // Index 0 is no function, as a null pointer is none.
        assert_ne!(
            index, 0,
            "`{START}` was spawned with an argument that this program did not make"
        );
        // SAFETY: the parent is an instance of the same program, so the index is that of a trampoline here as well. If the
        // argument was forged, the call traps unless the table has a function of this type there: another trampoline, which
        // decodes the bytes or panics. In any case only this process is affected.
        let trampoline = unsafe { std::mem::transmute::<usize, Trampoline>(index as usize) };
        trampoline(&mut argument, 0.0, 0.0, 0.0, 0.0);
    });
}

/// The reason why no process was started. As in the contract, a failure to start is an error, never a pid of a process that dies
/// at once.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// The host knows no program with this name: it was not given by `--program NAME=PATH`.
    UnknownProgram,
    /// The program exports no function with this name that takes and returns nothing.
    UnknownFunction,
    /// The system, or a tree, has reached its limit of processes: `--max-processes`.
    TooManyProcesses,
    /// There is no memory for the process: the program's initial memory exceeds the limit of [`Spawn::max_memory`] or of the
    /// system, or no slot is free.
    NoMemory,
    /// The argument is larger than a message may be: `--max-message`.
    ArgumentTooLarge,
    /// Another process has the name given by [`Spawn::name`].
    NameTaken,
    /// The program needs these rights, which the process would not have; or this process may not spawn the program.
    NotGranted(String),
    /// The host does not support this option.
    NotSupported(String),
    /// Anything else, in the host's words.
    Other(String),
}

impl From<spawning::SpawnError> for SpawnError {
    fn from(error: spawning::SpawnError) -> Self {
        match error {
            spawning::SpawnError::UnknownProgram => Self::UnknownProgram,
            spawning::SpawnError::UnknownFunction => Self::UnknownFunction,
            spawning::SpawnError::TooManyProcesses => Self::TooManyProcesses,
            spawning::SpawnError::NoMemory => Self::NoMemory,
            spawning::SpawnError::ArgumentTooLarge => Self::ArgumentTooLarge,
            spawning::SpawnError::NameTaken => Self::NameTaken,
            spawning::SpawnError::NotGranted(name) => Self::NotGranted(name),
            spawning::SpawnError::NotSupported(option) => Self::NotSupported(option),
            spawning::SpawnError::Other(text) => Self::Other(text),
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("can't spawn a process: ")?;
        match self {
            Self::UnknownProgram => formatter.write_str("there is no program of this name"),
            Self::UnknownFunction => formatter.write_str("the program has no such function"),
            Self::TooManyProcesses => formatter.write_str("the system holds as many as it may"),
            Self::NoMemory => formatter.write_str("there is no memory for it"),
            Self::ArgumentTooLarge => formatter.write_str("its argument is too large"),
            Self::NameTaken => formatter.write_str("another process has the name"),
            Self::NotGranted(name) => write!(formatter, "`{name}` is not granted"),
            Self::NotSupported(option) => {
                write!(formatter, "the host does not support the option `{option}`")
            }
            Self::Other(text) => formatter.write_str(text),
        }
    }
}

debug_as_display!(SpawnError);

impl Error for SpawnError {}
