//! requests: makes several requests at once, and takes the answers later.
//!
//! It shows requests that don't wait, a server that passes each request on to a process of its own, and an answer that the
//! client no longer wants.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    Pid, Reference, Selector, call, println, receive, receive_event, receive_selected, reply_to,
    send_request, spawn, unalias,
};

const LONG: Duration = Duration::from_secs(60);

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let server = spawn(serve, ())?;
    // The servers work on all three at once. The client takes the answers in the order of the requests.
    let requests = [1_u64, 2, 3].map(|number| (number, send_request(server, &number)));
    for (number, request) in requests {
        let answer = receive_selected::<u64>(&Selector::Reference(request), Some(LONG))?;
        println!(
            "{number} squared: {:?}",
            answer.map(|answer| answer.message)
        );
    }

    let unhurried = spawn(wait_for_another, ())?;
    let request = send_request(unhurried, "first");
    println!("the first is not wanted any more: {}", unalias(request));
    let answer: String = call(unhurried, "second", LONG)?;
    println!("answered: {answer}");
    // The server answered the first request before the second.
    let first = receive_event(&Selector::Any, Some(Duration::ZERO));
    println!("the first has an answer: {}", first.is_some());
    Ok(())
}

/// Starts a process for each request, and is ready for the next one.
fn serve(_: ()) -> Result<(), Box<dyn Error>> {
    loop {
        let request = receive::<u64>()?;
        if let Some(reference) = request.reference {
            spawn(square, (request.message, request.sender, reference))?;
        }
    }
}

/// Answers in place of the server.
fn square((number, caller, request): (u64, Pid, Reference)) {
    reply_to(caller, request, &(number * number));
}

/// Answers a request when the next one comes, and then answers that one.
fn wait_for_another(_: ()) -> Result<(), Box<dyn Error>> {
    let first = receive::<String>()?;
    let second = receive::<String>()?;
    for request in [first, second] {
        request.reply(&request.message);
    }
    Ok(())
}
