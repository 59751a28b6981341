//! The behaviour of a storm's members until they end. Each waits in its own way.

use std::hint::black_box;
use std::time::Duration;

use atoll_guest::{
    CallError, DownSignal, Event, Message, Pid, Received, Reference, Selector, call, exit, groups,
    link, monitor, receive_event, register, self_pid, send_after, send_tagged, start_timer,
    trap_exit,
};
use serde::{Deserialize, Serialize};

use crate::causes::{Cause, Means, Request};

/// The tag of answers to messages that are not calls.
pub const ANSWER: u32 = 1;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);

/// How a member waits.
#[derive(Clone, Serialize, Deserialize)]
pub enum Way {
    /// It waits for an event.
    Receive,
    /// It waits for an event for a short time, again and again.
    Timeout,
    /// It does not wait: it computes.
    Busy,
    /// It waits for the answer to a call, which does not come.
    Call(Pid),
    /// It waits for exit signals among others, which it traps.
    Trap,
    /// It waits for timers: some fire, and of the others one would send something to this process.
    Timers(Pid),
    /// It waits under a name, which it registers itself unless the spawn did.
    Name(Option<String>),
    /// It waits as a member of groups, and perhaps monitors them.
    Groups(usize, bool),
    /// It waits for the ends of other processes.
    Watch(Vec<Pid>),
}

impl Way {
    /// The name of the way, for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Receive => "a receiver",
            Self::Timeout => "a receiver with a timeout",
            Self::Busy => "a busy one",
            Self::Call(_) => "a caller",
            Self::Trap => "a trapper",
            Self::Timers(_) => "a holder of timers",
            Self::Name(_) => "a bearer of a name",
            Self::Groups(..) => "a member of groups",
            Self::Watch(_) => "a watcher",
        }
    }

    /// Does a member that waits in this way receive requests?
    pub fn listens(&self) -> bool {
        !matches!(self, Self::Busy | Self::Call(_))
    }

    /// The cause for which a member that waits in this way ends by such means.
    pub fn end_by(&self, means: Means) -> Option<Cause> {
        match means {
            Means::Signal(Cause::Kill) => Some(Cause::Killed),
            Means::Signal(Cause::Normal) => matches!(self, Self::Trap).then_some(Cause::Normal),
            Means::Signal(cause) => Some(cause),
            Means::Ask(cause) => self.listens().then_some(cause),
        }
    }
}

/// A member's life: links itself to a relative if it has one, and waits.
pub fn live((relative, way): (Option<Pid>, Way)) {
    if let Some(relative) = relative {
        link(relative);
    }
    let mut timeout = None;
    let mut monitors = Vec::new();
    match way {
        Way::Receive => {}
        Way::Timeout => timeout = Some(SHORT),
        Way::Busy => compute(),
        Way::Call(server) => wait_for_answer(server),
        Way::Trap => {
            trap_exit(true);
        }
        Way::Timers(main) => {
            start_timer(LONG, main, 0);
            start_timer(LONG, self_pid(), 0);
            start_timer(SHORT, self_pid(), 0);
            send_after(LONG, self_pid(), &Request::Hush);
            send_after(SHORT, self_pid(), &Request::Hush);
        }
        Way::Name(None) => {}
        Way::Name(Some(name)) => {
            if let Err(error) = register(&name, self_pid()) {
                exit(format!("{name}: {error}").into());
            }
        }
        Way::Groups(number, watches) => join(number, watches),
        Way::Watch(others) => monitors.extend(others.into_iter().map(monitor)),
    }
    wait(timeout, monitors);
}

/// Receives events until one of them is its end.
fn wait(timeout: Option<Duration>, mut monitors: Vec<Reference>) {
    loop {
        match receive_event(&Selector::Any, timeout) {
            None | Some(Event::Timer(_) | Event::Group(_)) => {}
            Some(Event::Exit(signal)) => exit(signal.reason),
            Some(Event::Down(signal)) => cross_off(&mut monitors, &signal),
            Some(Event::Message(message)) => match obey(message) {
                None => {}
                Some(Cause::Normal) => return,
                Some(Cause::Trap) => std::process::abort(),
                Some(cause) => exit(cause.reason()),
            },
        }
    }
}

/// Does what the message asks for. Returns the cause for which the member is to end, if it is to.
fn obey(message: Message) -> Option<Cause> {
    match Received::<Request>::from_message(message) {
        Ok(request) => match request.message {
            Request::End(cause) => return Some(cause),
            Request::Hush => {}
            Request::Answer if request.reference.is_some() => request.reply(&()),
            Request::Answer => send_tagged(request.sender, ANSWER, &()),
        },
        Err(error) => exit(error.to_string().into()),
    }
    None
}

fn cross_off(monitors: &mut Vec<Reference>, signal: &DownSignal) {
    match monitors
        .iter()
        .position(|&monitor| monitor == signal.monitor)
    {
        Some(place) => {
            monitors.swap_remove(place);
        }
        None => exit(format!("a member was told twice of the end of {}", signal.target).into()),
    }
}

/// Calls another process, and ends when that process ends.
fn wait_for_answer(server: Pid) -> ! {
    match call::<()>(server, &Request::Hush, LONG) {
        Err(CallError::Down(_)) => exit(Cause::Deserted.reason()),
        Err(error) => exit(error.to_string().into()),
        Ok(()) => exit("a call was answered that nobody answers".into()),
    }
}

fn join(number: usize, watches: bool) {
    let group = format!("storm {number}");
    if watches {
        groups::monitor(&group);
    }
    // It joins the same group twice, and leaves it twice.
    for group in ["storm", &group, &group] {
        if let Err(error) = groups::join(group, self_pid()) {
            exit(error.to_string().into());
        }
    }
}

fn compute() -> ! {
    let mut number = 1_u64;
    loop {
        number = black_box(number.wrapping_mul(3));
    }
}
