//! The calling process: its pid, its argument, its beginning and its end.
//!
//! A process begins in an exported function. One of two macros makes that function, or [`spawn`](crate::spawn) uses its own:
//!
//! ```text
//! entry!(main)         exports "run"               ─┐
//! export!("name", f)   exports "name"              ─┼─▶ constructors, panic hook ─▶ the function ─▶ Outcome::finish
//! spawn(f, argument)   uses "atoll-guest:start"    ─┘
//! ```

use std::fmt::Display;

use serde::de::DeserializeOwned;

use crate::bindings::atoll_rt::process::lifecycle;
use crate::{ExitReason, Pid, Priority, codec, output};

/// Makes a function the program's entry, which the first process of a system runs.
///
/// The function takes no arguments. It returns nothing, or a `Result` of nothing (see [`Outcome`]).
///
/// ```no_run
/// atoll_guest::entry!(main);
///
/// fn main() {
///     atoll_guest::println!("here I am");
/// }
/// ```
#[macro_export]
macro_rules! entry {
    ($function:path) => {
        const _: () = {
            #[unsafe(export_name = "run")]
            extern "C" fn run() {
                $crate::internal::enter($function)
            }
        };
    };
}

/// Exports a function under a name, so that other programs and the host can spawn it: see [`Spawn::named`](crate::Spawn::named).
///
/// The function takes one argument, as for [`spawn`](crate::spawn). The name must differ from every other export of the
/// program.
///
/// ```no_run
/// atoll_guest::export!("greet", greet);
///
/// fn greet(name: String) {
///     atoll_guest::println!("hello, {name}");
/// }
/// ```
#[macro_export]
macro_rules! export {
    ($name:literal, $function:path) => {
        const _: () = {
            #[unsafe(export_name = $name)]
            extern "C" fn exported() {
                $crate::internal::enter_with_argument($name, $function)
            }
        };
    };
}

/// The return types of a process's function.
///
/// Nothing, or `Ok`, ends the process with [`ExitReason::Normal`]. `Err` is printed on standard error and ends the process with
/// [`ExitReason::Other`] and the text of the error. So a function can use `?` and leave errors to other processes.
pub trait Outcome {
    /// Ends the process with the reason for this value.
    fn finish(self);
}

impl Outcome for () {
    fn finish(self) {}
}

impl<E: Display> Outcome for Result<(), E> {
    fn finish(self) {
        if let Err(error) = self {
            let text = error.to_string();
            crate::eprintln!("process {} failed: {text}", self_pid());
            exit(ExitReason::Other(text.into_bytes()))
        }
    }
}

/// The calling process. OTP: `self/0`.
pub fn self_pid() -> Pid {
    lifecycle::self_()
}

/// Ends the calling process at once, with this reason. OTP: `exit/1`.
pub fn exit(reason: ExitReason) -> ! {
    lifecycle::exit(&reason);
    unreachable!("the host has ended this process")
}

/// Is this process alive? A process that is ending is not. OTP: `is_process_alive/1`.
pub fn is_alive(process: Pid) -> bool {
    lifecycle::is_alive(process)
}

/// Lets the other processes run first. A process that computes for long need not call this, because the scheduler preempts it.
/// OTP: `yield/0`.
pub fn yield_now() {
    lifecycle::yield_now();
}

/// Sets the priority of the calling process, and returns the previous one. A process begins with [`Priority::Normal`], unless it
/// was spawned with [`Spawn::priority`](crate::Spawn::priority). OTP: `process_flag(priority, …)`.
///
/// Of eight turns, seven go to `High` processes while any of them can run. Of the remaining turns, seven of eight go to `Normal`
/// processes and one to a `Low` one. So no process starves, unlike in OTP.
pub fn set_priority(priority: Priority) -> Priority {
    lifecycle::set_priority(priority)
}

/// Tells the host that the next wait of the calling process will be long, so that packing its memory is worthwhile. This holds
/// for one wait, and returns at once. OTP: `hibernate/3`, which discards the stack and does not return.
pub fn hibernate() {
    lifecycle::hibernate();
}

/// The argument that the calling process was spawned with, as bytes. A function that was spawned with a typed argument has it
/// already. The first process of a system has an empty argument, unless the command line gives it one.
pub fn argument_bytes() -> Vec<u8> {
    lifecycle::argument()
}

/// Runs a process from its beginning to its end.
pub fn enter<R: Outcome>(function: impl FnOnce() -> R) {
    run_constructors();
    output::report_panics();
    function().finish();
}

/// The same, for a function that takes an argument.
pub fn enter_with_argument<A, R>(name: &str, function: impl FnOnce(A) -> R)
where
    A: DeserializeOwned,
    R: Outcome,
{
    enter(|| {
        // The bytes are freed before the function runs, because it may run for ever.
        let argument = codec::decode(&argument_bytes());
        match argument {
            Ok(argument) => function(argument),
            Err(error) => panic!("the argument of `{name}` can't be read: {error}"),
        }
    });
}

/// Runs the constructors that libraries, mainly C's, have registered with the linker.
///
/// If the program didn't call them itself, the linker would wrap every exported function, including `cabi_realloc`, in code that
/// calls them, and that runs destructors when the function returns.
fn run_constructors() {
    #[cfg(target_family = "wasm")]
    {
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }
        // SAFETY: the linker makes this function. `enter`, which runs once in each instance, is its only caller.
        unsafe { __wasm_call_ctors() }
    }
}
