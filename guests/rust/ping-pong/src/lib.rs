//! ping-pong: two processes pass a payload back and forth. Arguments: rounds (100000), payload in bytes (16).
//!
//! It shows messages of plain bytes, and the cost of a round trip. The host copies such a message once from memory to mailbox
//! and once from mailbox to memory.

use std::error::Error;

use atoll_guest::{
    Envelope, Event, Pid, Selector, arg_or, println, receive_event, self_pid, send_bytes, spawn,
    time,
};

/// The tag of the ball.
const BALL: u32 = 1;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u64 = arg_or(0, 100_000)?;
    let payload_bytes: usize = arg_or(1, 16)?;

    let partner = spawn(partner, self_pid())?;
    let mut ball = vec![0; payload_bytes];
    let start_ns = time::now_ns();
    for _ in 0..rounds {
        send_bytes(partner, Envelope::tagged(BALL), &ball);
        ball = next_ball();
    }
    let elapsed_ns = time::now_ns() - start_ns;

    let round_trip_us = elapsed_ns as f64 / 1000.0 / rounds.max(1) as f64;
    println!("{rounds} round trips of {payload_bytes} bytes, {round_trip_us:.3} µs each");
    Ok(())
}

/// Returns every ball.
fn partner(other: Pid) {
    loop {
        send_bytes(other, Envelope::tagged(BALL), &next_ball());
    }
}

fn next_ball() -> Vec<u8> {
    loop {
        if let Some(Event::Message(message)) = receive_event(&Selector::Tag(BALL), None) {
            return message.payload;
        }
    }
}
