//! Messages back and forth between two processes, and around a ring.

use std::hint::black_box;

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
            // As in Erlang, the sender needs the sent message no more.
            drop(ball);
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
        _ => panic!("expected a message"),
    }
}

/// The messages to members of a ring.
#[derive(Serialize, Deserialize)]
enum Step {
    /// The member's neighbour.
    Next(Pid),
    /// Pass the token on: this many hops are left.
    Token(u32),
    /// Pass this on and end.
    Stop,
}

/// The process outside of the ring: it makes the ring, sends the token into it (the first hop), and waits.
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

/// One receiver, and m producers that send n messages together as fast as they can.
pub fn fan_in(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    measure(&argument, || {
        let receiver = spawn(receive_many, (self_pid(), n))?;
        for _ in 0..m {
            spawn(send_many, (receiver, n / m))?;
        }
        receive::<()>()?;
        Ok(())
    })
}

fn receive_many((root, count): (Pid, u32)) {
    for _ in 0..count {
        receive_event(&Selector::Any, None);
    }
    send(root, &());
}

fn send_many((receiver, count): (Pid, u32)) {
    for number in 0..count {
        send_bytes(receiver, Envelope::tagged(BALL), &number.to_le_bytes());
    }
}

/// Iterations that each process of a pair computes before it answers.
const COMPUTING: u32 = 20_000;

/// Starts m independent pairs. Each pair does n / m round trips and computes in between.
pub fn pairs(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    measure(&argument, || {
        for _ in 0..m {
            spawn(computing_pair, (self_pid(), n / m))?;
        }
        for _ in 0..m {
            receive::<()>()?;
        }
        Ok(())
    })
}

fn computing_pair((root, rounds): (Pid, u32)) -> Outcome {
    let partner = spawn(echo, ())?;
    for round in 0..rounds {
        let sum = (0..COMPUTING).fold(round, |sum, turn| black_box(sum.wrapping_mul(31) ^ turn));
        send_bytes(partner, Envelope::tagged(BALL), &sum.to_le_bytes());
        next_ball();
    }
    stop(partner);
    send(root, &());
    Ok(())
}
