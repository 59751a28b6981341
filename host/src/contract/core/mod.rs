//! The contract for the flattened path: core functions in the canonical ABI's shapes.
//!
//! A guest's numbers are hostile until checked: a pointer must lie within its memory with everything it points to,
//! a discriminant must name a case, a length is compared with its limit before anything is copied. What is wrong traps
//! the guest, with a text that names the function. Only the low 32 bits of a joined `i64` count where the case is
//! narrower; some toolchains extend them with the sign.
//!
//! | file | holds |
//! |---|---|
//! | here | the table of functions |
//! | `guard` | what is asked before each function |
//! | `pausing` | giving up a turn and going on |
//! | `memory` | reading and writing guest memory, leaving lists |
//! | `values` | the contract's variants, read and written |
//! | `lifecycle`, `mailbox`, `signals`, `registry`, `timers`, `inspection` | the functions, by interface |

mod guard;
mod inspection;
mod lifecycle;
mod mailbox;
mod memory;
mod pausing;
mod registry;
mod signals;
mod timers;
mod values;

use crate::abi::{self, FUNCTIONS, RAW_MODULE, RAW_MOVED, RAW_PAUSE, RAW_TAKE, Shape};
use crate::engine::state::State;
use guard::{Function as _, RetriedFunction as _};
use pausing::{AGAIN, AGAIN_LISTS, moved, wait};
use wasmtime::{Caller, Linker, Result};

/// What a raw function answers when it is done and has no result.
const DONE: i32 = 0;
/// The same for functions that may leave lists.
const NO_LISTS: i64 = 0;

/// The answer of `receive` and `call`: that of a function that may leave lists, and the payload, if it is short.
type Answer = (i64, i64, i64);

const fn without_payload(answer: i64) -> Answer {
    (answer, 0, 0)
}

type Guest<'a> = Caller<'a, State>;

/// Defines every function of the contract.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    // By one call, which does everything.
    macro_rules! direct {
        ($($interface:literal $name:literal = $function:path),+ $(,)?) => {
            $(
                assert!(function($interface, $name).shape == Shape::Direct || $name == "yield-now");
                $function.define_direct(linker, module_of($interface, $name), &raw_name($interface, $name))?;
            )+
        };
    }
    // By a call that may answer "again": the rewriter's glue asks under a name of its own.
    macro_rules! retried {
        ($($interface:literal: { $($name:literal = $function:path),+ $(,)? })+) => {
            $($(
                assert_ne!(function($interface, $name).shape, Shape::Direct);
                $function.define_retried(linker, module_of($interface, $name), &raw_name($interface, $name))?;
            )+)+
        };
    }
    direct! {
        "lifecycle" "self" = lifecycle::this,
        "lifecycle" "exit" = lifecycle::exit,
        "lifecycle" "set-priority" = lifecycle::set_priority,
        "lifecycle" "hibernate" = lifecycle::hibernate,
        // Is about giving up a turn itself.
        "lifecycle" "yield-now" = lifecycle::yield_now,
        "mailbox" "make-reference" = mailbox::make_reference,
        "signals" "trap-exit" = signals::trap_exit,
    }
    retried! {
        "lifecycle": { "argument" = lifecycle::argument, "is-alive" = lifecycle::is_alive }
        "mailbox": {
            "send" = mailbox::send, "send-named" = mailbox::send_named, "receive" = mailbox::receive,
            "call" = mailbox::call, "reply" = mailbox::reply, "alias" = mailbox::alias, "unalias" = mailbox::unalias,
        }
        "signals": {
            "exit-process" = signals::exit_process, "link" = signals::link, "unlink" = signals::unlink,
            "monitor" = signals::monitor, "demonitor" = signals::demonitor,
        }
        "names": {
            "register" = registry::register, "unregister" = registry::unregister, "whereis" = registry::whereis,
            "registered" = registry::registered,
        }
        "groups": {
            "join" = registry::join, "leave" = registry::leave, "members" = registry::members,
            "which-groups" = registry::which_groups, "monitor" = registry::monitor,
            "demonitor" = registry::demonitor,
        }
        "timers": {
            "send-after" = timers::send_after, "start-timer" = timers::start_timer,
            "cancel-timer" = timers::cancel_timer, "read-timer" = timers::read_timer,
        }
        "spawning": { "spawn" = lifecycle::spawn }
        "inspection": {
            "processes" = inspection::processes, "info" = inspection::info, "counters" = inspection::counters,
        }
        "debugging": { "suspend" = inspection::suspend, "resume" = inspection::resume }
    }
    linker.func_wrap(RAW_MODULE, RAW_TAKE, memory::take)?;
    linker.func_wrap(RAW_MODULE, RAW_MOVED, |_guest: Guest<'_>| moved())?;
    linker.func_wrap_async(RAW_MODULE, RAW_PAUSE, |guest, (left,)| {
        Box::new(pausing::pause(guest, left))
    })?;
    Ok(())
}

fn function(interface: &str, name: &str) -> &'static abi::Function {
    let module = abi::interface_module(interface);
    let function = FUNCTIONS
        .iter()
        .find(|function| function.interface == module && function.name == name);
    function.expect("the table names every function")
}

fn module_of(interface: &str, name: &str) -> &'static str {
    let function = function(interface, name);
    match function.shape {
        Shape::Direct => function.interface,
        _ => RAW_MODULE,
    }
}

fn raw_name(interface: &str, name: &str) -> String {
    let function = function(interface, name);
    match function.shape {
        Shape::Direct => function.name.to_owned(),
        _ => function.raw_name(),
    }
}
