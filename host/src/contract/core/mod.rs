//! The contract for the flattened path: core functions in the canonical ABI's shapes.
//!
//! A guest's numbers are hostile until checked: a pointer must lie within its memory with everything it points to,
//! a discriminant must name a case, a length is compared with its limit before anything is copied. A wrong number traps
//! the guest, with a text that names the function. Only the low 32 bits of a joined `i64` count where the case is
//! narrower; some toolchains extend them with the sign. Sizes, offsets and the numbers of cases are those of
//! [`layout`](crate::abi::layout), which is generated from `wit/`.
//!
//! | file | holds |
//! |---|---|
//! | here | the table of functions: one row each |
//! | `guard` | the checks in front of each function |
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

/// The answer of a raw function that is done and has no result.
const DONE: i32 = 0;
/// The same for functions that may leave lists.
const NO_LISTS: i64 = 0;

/// The answer of `receive` and `call`: that of a function that may leave lists, and the payload, if it is short.
type Answer = (i64, i64, i64);

const fn without_payload(answer: i64) -> Answer {
    (answer, 0, 0)
}

type Guest<'a> = Caller<'a, State>;

/// Defines every function of the contract, and the raw functions that glue calls beside them. The host does not start if
/// a function is missing or does not fit its shape.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    let linked = link_contract(linker)?;
    for function in FUNCTIONS {
        let name = function.raw_name();
        assert!(
            linked.contains(&name),
            "the contract's {name} is not linked"
        );
    }
    linker.func_wrap(RAW_MODULE, RAW_TAKE, memory::take)?;
    linker.func_wrap(RAW_MODULE, RAW_MOVED, |_guest: Guest<'_>| moved())?;
    linker.func_wrap_async(RAW_MODULE, RAW_PAUSE, |guest, (left,)| {
        Box::new(pausing::pause(guest, left))
    })?;
    Ok(())
}

/// Defines the functions of the contract, and returns their raw names.
fn link_contract(linker: &mut Linker<State>) -> Result<Vec<String>> {
    let mut linked = Vec::with_capacity(FUNCTIONS.len());
    // By one call, which does everything.
    macro_rules! direct {
        ($($interface:literal: { $($name:literal = $path:path),+ $(,)? })+) => {
            $($({
                let function = function($interface, $name);
                assert_eq!(function.shape, Shape::Direct, "{}: see `retried!`", function.raw_name());
                $path.define_direct(linker, function.interface, function.name)?;
                linked.push(function.raw_name());
            })+)+
        };
    }
    // By a call that may answer "again": the rewriter's glue asks under a name of its own.
    macro_rules! retried {
        ($($interface:literal: { $($name:literal = $path:path),+ $(,)? })+) => {
            $($({
                let function = function($interface, $name);
                assert_ne!(function.shape, Shape::Direct, "{}: see `direct!`", function.raw_name());
                $path.define_retried(linker, RAW_MODULE, &function.raw_name())?;
                linked.push(function.raw_name());
            })+)+
        };
    }
    direct! {
        "lifecycle": {
            "self" = lifecycle::this, "exit" = lifecycle::exit, "set-priority" = lifecycle::set_priority,
            "hibernate" = lifecycle::hibernate,
        }
        "mailbox": { "make-reference" = mailbox::make_reference }
        "signals": { "trap-exit" = signals::trap_exit }
    }
    // Answers "again" itself, once in every call. If the guard did so as well, one call would take two turns.
    let yield_now = function("lifecycle", "yield-now").raw_name();
    lifecycle::yield_now.define_direct(linker, RAW_MODULE, &yield_now)?;
    linked.push(yield_now);
    retried! {
        "lifecycle": { "argument" = lifecycle::argument, "is-alive" = lifecycle::is_alive }
        "mailbox": {
            "send" = mailbox::send, "send-named" = mailbox::send_named, "try-send" = mailbox::try_send,
            "receive" = mailbox::receive,
            "call" = mailbox::call, "reply" = mailbox::reply, "alias" = mailbox::alias, "unalias" = mailbox::unalias,
        }
        "signals": {
            "exit-process" = signals::exit_process, "kill-tree" = signals::kill_tree, "link" = signals::link, "unlink" = signals::unlink,
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
    Ok(linked)
}

/// The row of the generated table that describes a function.
fn function(interface: &str, name: &str) -> &'static abi::Function {
    let function = abi::function(&abi::interface_module(interface), name);
    function.expect("the contract has every function that is linked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use wasmtime::{Engine, Module};

    /// A guest that imports every function by the signature of the table: each one behind it has the same.
    #[test]
    fn every_function_has_the_signature_of_the_contract() {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        link(&mut linker).expect("the functions of the contract can be linked");
        for function in FUNCTIONS {
            let raw_name = function.raw_name();
            let (module, name, results) = match function.shape {
                Shape::Direct => (function.interface, function.name, function.results),
                shape => (RAW_MODULE, &*raw_name, shape.raw_answers()),
            };
            let mut import = format!("(module (import {module:?} {name:?} (func");
            for ty in function.params {
                write!(import, " (param {ty})").expect("texts can be written to");
            }
            for ty in results {
                write!(import, " (result {ty})").expect("texts can be written to");
            }
            import.push_str(")))");
            let guest = wat::parse_str(&import).expect("the guest is well-formed");
            let guest = Module::new(&engine, guest).expect("the guest is valid");
            if let Err(error) = linker.instantiate_pre(&guest) {
                panic!("{raw_name}: {error:#}");
            }
        }
    }
}
