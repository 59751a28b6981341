//! crasher: each way to crash, and a neighbour that goes on. Argument: a way, or none for all of them, one after the other.
//!
//! It shows that a crash ends one process: the process loses its own resources, and other processes keep theirs. The host
//! reports each crash on standard error.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use atoll_guest::{
    ExitReason, Pid, Spawn, args, call, exit, is_alive, println, receive, self_pid, send, sleep,
    spawn, yield_now,
};

/// The ways to crash, by name.
const WAYS: [(&str, fn()); 8] = [
    ("panic", panic),
    ("unreachable", unreachable),
    ("divide", divide),
    ("out-of-bounds", out_of_bounds),
    ("stack", stack),
    ("memory", memory),
    ("mailbox", mailbox),
    ("exit", exit_on_purpose),
];

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    match args().first() {
        Some(way) => die(way.clone()),
        None => die_in_every_way(),
    }
}

fn die(name: String) -> Result<(), Box<dyn Error>> {
    let known = WAYS.iter().find(|(known, _)| *known == name);
    let Some((_, way)) = known else {
        let names = WAYS.map(|(name, _)| name).join(", ");
        return Err(format!("no way to die is called `{name}`: choose one of {names}").into());
    };
    way();
    unreachable!("`{name}` leaves nobody here")
}

/// Crashes one process after the other. After each crash it asks the neighbour whether it still lives.
fn die_in_every_way() -> Result<(), Box<dyn Error>> {
    let neighbour = spawn(neighbour, ())?;
    for (name, _) in WAYS {
        // The limits are small, so that the process exceeds them at once.
        let crashing = Spawn::new()
            .label(name)
            .max_memory(16 << 20)
            .max_mailbox(1 << 20);
        let process = crashing.function(die, name.to_owned())?;
        while is_alive(process) {
            sleep(Duration::from_millis(1));
        }
        let crashes: u32 = call(neighbour, &process, Duration::from_secs(5))?;
        println!("{crashes}. {name}: {process} is dead");
    }
    // The neighbour itself prints the last line, so that no other process can have printed it.
    let () = call(neighbour, &self_pid(), Duration::from_secs(5))?;
    Ok(())
}

/// Receives the crashed processes' pids and counts them. Main's own pid ends the count.
fn neighbour(_: ()) -> Result<(), Box<dyn Error>> {
    let mut crashes = 0_u32;
    loop {
        let request = receive::<Pid>()?;
        if request.message == request.sender {
            println!("neighbour: still here after {crashes} crashes");
            request.reply(&());
        } else {
            crashes += 1;
            request.reply(&crashes);
        }
    }
}

/// The ordinary end of a Rust program after a mistake: a message, then a trap.
fn panic() {
    panic!("on purpose");
}

/// The wasm instruction `unreachable`: a trap without a message.
fn unreachable() {
    // The argument makes this function unique, or the compiler would merge it with another one that only aborts.
    black_box("nobody gets past this");
    std::process::abort();
}

/// Rust checks divisors, and panics.
fn divide() {
    black_box(black_box(1) / black_box(0));
}

/// Reads behind the end of memory.
fn out_of_bounds() {
    let far_away = black_box(usize::MAX - 16) as *const u64;
    // SAFETY: there is none, which is the point. wasm checks the address, and traps.
    black_box(unsafe { far_away.read_unaligned() });
}

/// Recurses until the stack is full.
fn stack() {
    fn deeper(depth: u64) -> u64 {
        // The compiler knows nothing about this call, so it can't turn the recursion into a loop.
        yield_now();
        if depth == u64::MAX {
            depth
        } else {
            deeper(depth + 1).rotate_left(1) ^ depth
        }
    }
    black_box(deeper(black_box(0)));
}

/// Takes memory until the host refuses. In Rust that ends the process.
fn memory() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![0_u8; 1 << 20]));
    }
}

/// Sends messages to itself and receives none.
fn mailbox() {
    let me = self_pid();
    loop {
        send(me, &[0_u8; 32]);
    }
}

/// Ends with a reason of its own. That is no crash, so the host reports nothing.
fn exit_on_purpose() {
    exit(ExitReason::from("enough"));
}
