//! counter: the first program to read. One process holds a count. Another process adds to it and asks for it.
//!
//! It shows how to spawn a function, send it messages, and call it, which is to ask and wait for the answer.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{call, println, receive, send, spawn};
use serde::{Deserialize, Serialize};

/// The messages to the counter.
#[derive(Serialize, Deserialize)]
enum Request {
    /// Add one, without an answer.
    Inc,
    /// Answer with the count.
    Get,
}

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let counter = spawn(counter, 0)?;
    for _ in 0..3 {
        send(counter, &Request::Inc);
    }
    let count: u64 = call(counter, &Request::Get, Duration::from_secs(5))?;
    println!("count is {count}");
    Ok(())
}

/// The counter: a loop around its state, which no other process can reach.
fn counter(mut count: u64) -> Result<(), Box<dyn Error>> {
    loop {
        let request = receive()?;
        match request.message {
            Request::Inc => count += 1,
            Request::Get => request.reply(&count),
        }
    }
}
