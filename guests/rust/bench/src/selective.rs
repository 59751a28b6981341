//! Requests and answers beside messages that stay in the mailbox.

use std::time::Duration;

use atoll_guest::{
    Envelope, Pid, Selector, call, kill, make_reference, receive, receive_event, self_pid,
    send_bytes, spawn, spawn_link,
};

use crate::{Argument, BALL, Outcome, echo, measure, numbers, stop};

/// The tag of the messages that stay in the mailbox.
const JUNK: u32 = 6;
/// The tags of requests start here.
const FIRST_VALUE: u32 = 16;
/// The timeout of `gen_server:call/2`.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Selects each answer by the tag of its request, so the search passes over all waiting messages.
pub fn by_value(argument: Argument) -> Outcome {
    beside_junk(&argument, |server, number| {
        let tag = FIRST_VALUE + number;
        send_bytes(server, Envelope::tagged(tag), &[]);
        receive_event(&Selector::Tag(tag), None);
    })
}

/// Selects each answer by a reference that is newer than all waiting messages.
pub fn by_reference(argument: Argument) -> Outcome {
    beside_junk(&argument, |server, _| {
        let reference = make_reference();
        let envelope = Envelope {
            reference: Some(reference),
            ..Envelope::tagged(BALL)
        };
        send_bytes(server, envelope, &[]);
        receive_event(&Selector::Reference(reference), None);
    })
}

/// Sends itself m messages that stay in the mailbox, and then asks a server n times.
fn beside_junk(argument: &Argument, ask: impl Fn(Pid, u32)) -> Outcome {
    let [n, m] = numbers(argument);
    let server = spawn_link(echo, ())?;
    let me = self_pid();
    for number in 0..m {
        send_bytes(me, Envelope::tagged(JUNK), &number.to_le_bytes());
    }
    measure(argument, || {
        for number in 0..n {
            ask(server, number);
        }
        Ok(())
    })?;
    stop(server);
    Ok(())
}

/// As a program would write it: typed requests, monitored, with a timeout.
pub fn request_reply(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    let server = spawn(answer, ())?;
    measure(&argument, || {
        for _ in 0..n {
            let () = call(server, &(), CALL_TIMEOUT)?;
        }
        Ok(())
    })?;
    kill(server);
    Ok(())
}

fn answer(_: ()) -> Outcome {
    loop {
        receive::<()>()?.reply(&());
    }
}
