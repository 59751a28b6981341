//! Messages that go to and fro, and round in a ring.

use atoll_guest::{
    Envelope, Event, Pid, Selector, receive, receive_event, self_pid, send, send_bytes, spawn,
};
use serde::{Deserialize, Serialize};

use crate::{Argument, BALL, Outcome, echo, measure, numbers, stop};

pub fn ping_pong(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    let partner = spawn(echo, ())?;
    let mut ball = vec![0; m as usize];
    measure(&argument, || {
        for _ in 0..n {
            send_bytes(partner, Envelope::tagged(BALL), &ball);
            ball = next_ball();
        }
        Ok(())
    })?;
    stop(partner);
    Ok(())
}

fn next_ball() -> Vec<u8> {
    match receive_event(&Selector::Any, None) {
        Some(Event::Message(message)) => message.payload,
        other => panic!("expected a message, received {other:?}"),
    }
}

/// What members of a ring hear.
#[derive(Serialize, Deserialize)]
enum Step {
    /// Here is your neighbour.
    Next(Pid),
    /// Pass it on: so many hops are left.
    Token(u32),
    /// Pass it on and end.
    Stop,
}

/// Stands outside the ring: makes it, throws the token in (the first hop), and waits.
pub fn ring(argument: Argument) -> Outcome {
    let root = self_pid();
    let [n, m] = numbers(&argument);
    let first = spawn(member, (root, root))?;
    let mut last = first;
    for _ in 1..m {
        last = spawn(member, (root, last))?;
    }
    send(first, &Step::Next(last));
    measure(&argument, || {
        if n > 0 {
            send(last, &Step::Token(n - 1));
            receive::<()>()?;
        }
        Ok(())
    })?;
    send(last, &Step::Stop);
    Ok(())
}

fn member((root, mut next): (Pid, Pid)) -> Outcome {
    loop {
        match receive()?.message {
            Step::Next(pid) => next = pid,
            Step::Token(0) => send(root, &()),
            Step::Token(hops) => send(next, &Step::Token(hops - 1)),
            Step::Stop => {
                send(next, &Step::Stop);
                return Ok(());
            }
        }
    }
}
