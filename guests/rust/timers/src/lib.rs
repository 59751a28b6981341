//! timers: messages and signals that arrive after a delay, unless they are cancelled.
//!
//! It shows timers for oneself and for others, how to read the time that is left, and a receive that gives up.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    Pid, Spawn, cancel_timer, println, read_timer, receive, receive_timeout, receive_timer,
    self_pid, send, send_after, start_timer, time,
};

const SHORT: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The timer's mark. The program chooses its meaning.
const TEA_IS_READY: u32 = 4;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let start_ns = time::now_ns();
    send_after(SHORT, self_pid(), "wake up");
    println!("a message: {}", receive::<String>()?.message);
    let elapsed = Duration::from_nanos(time::now_ns() - start_ns);
    println!("it came too early: {}", elapsed < SHORT);

    // By a name: the process that has the name when the timer fires.
    let listener = Spawn::new().name("listener");
    listener.function(listen, self_pid())?;
    send_after(SHORT, "listener", "dinner");
    println!("to a name: {}", receive::<String>()?.message);

    let timer = start_timer(SHORT, self_pid(), TEA_IS_READY);
    let signal = receive_timer(timer, None).ok_or("without a timeout it waits")?;
    println!("a signal: tag {}", signal.tag);
    println!("of this timer: {}", signal.timer == timer);
    println!("left of it: {:?}", read_timer(timer));

    let timer = start_timer(HOUR, self_pid(), TEA_IS_READY);
    let is_left =
        |left: Option<Duration>| left.is_some_and(|left| left > HOUR - MINUTE && left <= HOUR);
    println!("nearly all is left: {}", is_left(read_timer(timer)));
    println!("so it was when cancelled: {}", is_left(cancel_timer(timer)));
    println!("once more: {:?}", cancel_timer(timer));
    let signal = receive_timer(timer, Some(Duration::ZERO));
    println!("its signal: {}", signal.is_some());

    let message = receive_timeout::<String>(SHORT)?;
    println!("a message, if one comes in time: {}", message.is_some());
    Ok(())
}

/// Passes on its messages.
fn listen(other: Pid) -> Result<(), Box<dyn Error>> {
    let heard = receive::<String>()?.message;
    send(other, &format!("the listener heard of {heard}"));
    Ok(())
}
