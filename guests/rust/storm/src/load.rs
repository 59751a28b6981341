//! Load beside the strikes: processes that compute, processes that exchange messages with members, and the strikers.

use std::hint::black_box;
use std::time::Duration;

use atoll_guest::{
    CallError, Event, ExitReason, Pid, Received, Selector, call, exit, make_reference, receive,
    receive_event, self_pid, send,
};

use crate::causes::{Request, Strike};
use crate::members::ANSWER;
use crate::random::Random;

/// How many members a talker knows. It keeps the latest.
const KNOWN_MAX: usize = 256;
/// For one message in this many, a talker waits for the answer.
const CALLS: usize = 4;
const PATIENCE: Duration = Duration::from_micros(200);
const LONG: Duration = Duration::from_secs(3600);

/// Never waits.
pub fn spin(_: ()) {
    let mut number = 1_u64;
    loop {
        number = black_box(number.wrapping_mul(3));
    }
}

/// Never receives anything.
pub fn ignore(_: ()) {
    receive_event(&Selector::Reference(make_reference()), None);
}

/// Ends the members that it is told to end.
pub fn strike(_: ()) {
    loop {
        match receive::<Vec<Strike>>() {
            Ok(strikes) => strikes.message.into_iter().for_each(Strike::carry_out),
            Err(error) => exit(error.to_string().into()),
        }
    }
}

/// Exchanges messages with a partner, and with members that it is told of, whether they live or not.
pub fn talk(partner: Pid) {
    let mut random = Random::new(self_pid().id);
    let mut known = Vec::with_capacity(KNOWN_MAX);
    loop {
        hear(&mut known);
        match call::<()>(partner, &(), LONG) {
            Ok(()) => {}
            // The round is over, and this process ends next.
            Err(CallError::Down(ExitReason::Killed | ExitReason::Noproc)) => return ignore(()),
            Err(error) => exit(format!("a talker's partner: {error}").into()),
        }
        if known.is_empty() {
            continue;
        }
        let member = random.pick(&known);
        if !random.once_in(CALLS) {
            send(member, &Request::Answer);
            continue;
        }
        match call::<()>(member, &Request::Answer, PATIENCE) {
            Ok(()) | Err(CallError::Timeout | CallError::Down(_)) => {}
            Err(error) => exit(format!("a talker's call: {error}").into()),
        }
    }
}

/// Handles its events: members to exchange messages with, and their answers.
fn hear(known: &mut Vec<Pid>) {
    while let Some(event) = receive_event(&Selector::Any, Some(Duration::ZERO)) {
        match event {
            Event::Message(message) if message.tag == ANSWER && message.reference.is_none() => {}
            Event::Message(message) if message.tag == 0 => {
                match Received::<Vec<Pid>>::from_message(message) {
                    Ok(members) => known.extend(members.message),
                    Err(error) => exit(error.to_string().into()),
                }
                known.drain(..known.len().saturating_sub(KNOWN_MAX));
            }
            // Other events, for instance a late answer or the end of a called member.
            event => exit(format!("a talker received what was not for it: {event:?}").into()),
        }
    }
}

/// Answers every request.
pub fn answer(_: ()) {
    loop {
        match receive::<()>() {
            Ok(request) => request.reply(&()),
            Err(error) => exit(error.to_string().into()),
        }
    }
}
