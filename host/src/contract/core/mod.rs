//! The contract for the flattened path: core functions in the canonical ABI's shapes.
//!
//! A guest's numbers are hostile until checked: a pointer must lie within its memory with everything it points to,
//! a discriminant must name a case, a length is compared with its limit before anything is copied. What is wrong traps
//! the guest, with a text that names the function. Only the low 32 bits of a joined `i64` count where the case is
//! narrower; some toolchains extend them with the sign.
//!
//! | file | holds |
//! |---|---|
//! | here | the table of functions; giving up a turn and going on |
//! | `memory` | reading and writing guest memory, leaving lists |
//! | `values` | the contract's variants, read and written |
//! | `lifecycle`, `mailbox`, `signals`, `registry`, `timers`, `inspection` | the functions, by interface |

mod inspection;
mod lifecycle;
mod mailbox;
mod memory;
mod registry;
mod signals;
mod timers;
mod values;

use super::functions::survives;
use crate::engine::abi::{FUNCTIONS, RAW_MODULE, RAW_TAKE, Shape};
use crate::engine::state::State;
use crate::engine::{FUEL, abi, current_function};
use crate::system::handover;
use wasmtime::{Caller, Linker, Result};

/// What a raw function answers when the process must give up its turn and ask again.
const AGAIN: i32 = -1;
/// What it answers when it is done and has no result.
const DONE: i32 = 0;
/// The same for functions that may leave lists.
const AGAIN_LISTS: i64 = -1;
const NO_LISTS: i64 = 0;

type Guest<'a> = Caller<'a, State>;

/// Defines every function of the contract.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    // Each function is under its interface's name if it is called directly, and under the rewriter's if not.
    macro_rules! functions {
        ($($interface:literal: { $($name:literal = $function:path),+ $(,)? })+) => {
            $($(
                linker.func_wrap(module_of($interface, $name), &raw_name($interface, $name), $function)?;
            )+)+
        };
    }
    functions! {
        "lifecycle": {
            "self" = lifecycle::this, "argument" = lifecycle::argument, "exit" = lifecycle::exit,
            "is-alive" = lifecycle::is_alive, "yield-now" = lifecycle::yield_now,
            "set-priority" = lifecycle::set_priority, "hibernate" = lifecycle::hibernate,
        }
        "mailbox": {
            "send" = mailbox::send, "send-named" = mailbox::send_named, "receive" = mailbox::receive,
            "make-reference" = mailbox::make_reference, "call" = mailbox::call, "reply" = mailbox::reply,
            "alias" = mailbox::alias, "unalias" = mailbox::unalias,
        }
        "signals": {
            "exit-process" = signals::exit_process, "trap-exit" = signals::trap_exit, "link" = signals::link,
            "unlink" = signals::unlink, "monitor" = signals::monitor, "demonitor" = signals::demonitor,
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

/// Makes the next edge of a loop the end of the turn.
fn give_up_turn(guest: &mut Guest<'_>) -> Result<()> {
    let used = FUEL - guest.get_fuel()?;
    guest.fuel_async_yield_interval(Some(1))?;
    let state = guest.data_mut();
    state.giving_up_turn = true;
    state.current.pauses();
    handover::reductions(used + state.current.charged());
    Ok(())
}

/// Undoes that, once the process may go on.
#[inline]
fn go_on(guest: &mut Guest<'_>) -> Result<()> {
    let state = guest.data_mut();
    if state.giving_up_turn {
        state.giving_up_turn = false;
        let slice_reductions = state.current.shared.config.reductions;
        guest.fuel_async_yield_interval(Some(slice_reductions.into()))?;
    }
    Ok(())
}

/// Asked by every function at its beginning. Ends a process that was told to end. True if the host has worked a whole
/// slice for the process since its last pause: then it must give up its turn first, and ask again.
#[inline]
fn pauses(guest: &mut Guest<'_>) -> Result<bool> {
    if owes_pause(guest)? {
        give_up_turn(guest)?;
        return Ok(true);
    }
    go_on(guest)?;
    Ok(false)
}

/// The same for functions that wait: that ends a slice in any case, and the fuel interval is set back only when the wait
/// is over.
#[inline]
fn owes_pause(guest: &mut Guest<'_>) -> Result<bool> {
    let current = &*guest.data().current;
    survives(current)?;
    Ok(current.owes_pause())
}

/// Gives up the turn in order to wait. Whoever has asked where the process is can be told now: a backtrace takes
/// microseconds, so it is not taken unasked.
fn wait(guest: &mut Guest<'_>) -> Result<i64> {
    if guest.data().current.is_asked_where() {
        let function = current_function(guest);
        guest.data_mut().current.tell_where(function);
    }
    again_lists(guest)
}

/// Gives up the turn, to be asked again.
fn again(guest: &mut Guest<'_>) -> Result<i32> {
    give_up_turn(guest)?;
    Ok(AGAIN)
}

/// The same for functions that may leave lists.
fn again_lists(guest: &mut Guest<'_>) -> Result<i64> {
    give_up_turn(guest)?;
    Ok(AGAIN_LISTS)
}
