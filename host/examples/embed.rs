//! A Rust program that runs untrusted guests beside its own tasks.
//!
//! ```text
//! cargo run --release -p atoll-rt --example embed
//! ```
//!
//! The program talks to a guest that answers. Meanwhile a second guest spins for ever, a third crashes, and a fourth takes all
//! the memory it can get. They disturb neither each other nor the program's own task, which keeps ticking.

use atoll_rt::{
    Config, Event, ExitReason, HostMailbox, Limits, Outgoing, Pid, Selector, Spawn, System,
};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A guest that sends every message back, with its tag and its reference. A real guest would be written in Rust or C and read
/// from a file. `System::load` accepts the text of a module as well.
const ECHO: &str = r#"
(module
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send" (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (memory (export "memory") 1)
  ;; Tells the host where to put payloads. The guest holds one message at a time.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "run")
    (loop $next
      ;; Takes any event, without a time-out. Its description goes to address 0.
      (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 0))
      (call $send
        (i64.load (i32.const 16)) (i64.load (i32.const 24))                             ;; to its sender
        (i32.load (i32.const 32))                                                       ;; the tag
        (i32.load8_u (i32.const 40)) (i64.load (i32.const 48)) (i64.load (i32.const 56)) ;; the reference
        (i32.load8_u (i32.const 64)) (i32.load (i32.const 68)) (i32.load (i32.const 72))) ;; the payload
      (br $next))))
"#;

/// A misbehaving guest. Each exported function without parameters and results can be spawned.
const HOSTILE: &str = r#"
(module
  (memory (export "memory") 1)
  (func (export "run"))
  (func $spin (export "spin") (loop $for-ever (br $for-ever)))
  (func $crash (export "crash") unreachable)
  ;; Grows its memory until it gets no more, then traps.
  (func $hoard (export "hoard")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    unreachable))
"#;

/// The tag of questions to the echo, and of its answers.
const QUESTION: u32 = 1;
/// A guest can't be trusted to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

// A system has threads of its own. Its futures run on any runtime.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // All limits but the first two hold for each process. Guests get nothing from outside, because `grants` stays empty.
    let system = System::new(Config {
        schedulers: 1,
        max_processes: 100,
        max_memory: 1 << 20,
        max_mailbox: 64 << 10,
        max_message: 4 << 10,
        on_crash: Arc::new(|report| println!("{report}")),
        ..Config::default()
    })?;
    // Compiles the program and runs nothing. A program is loaded once for all its processes.
    let echo = system.load("echo", ECHO.as_bytes())?;
    let hostile = system.load("hostile", HOSTILE.as_bytes())?;

    // The program's own task.
    let ticks = Arc::new(AtomicU32::new(0));
    let ticker = tokio::spawn(tick(ticks.clone()));

    // The program watches the process from the start, so it can't miss the end.
    let (spinner, spinner_end) = system.spawn_watched(Spawn::new(&hostile).function("spin"))?;
    let (_, crash_end) = system.spawn_watched(Spawn::new(&hostile).function("crash"))?;
    // A process can have a limit of its own, and a label, which reports show.
    let hoard = Spawn::new(&hostile)
        .function("hoard")
        .limits(Limits::new().memory(256 << 10))
        .label("the hoarder");
    let (_, hoard_end) = system.spawn_watched(hoard)?;
    // Without a function's name, the process runs the program's entry.
    let echo = system.spawn(Spawn::new(&echo))?;

    let mut mailbox = system.open_mailbox()?;
    for question in ["hello", "still there?", "good bye"] {
        match ask(&mut mailbox, echo, question).await {
            Some(answer) => println!("asked {question:?}, answered {answer:?}"),
            None => println!("asked {question:?}, and got no answer"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    println!("the one that crashes ended: {}", crash_end.await);
    println!("the one that hoards ended: {}", hoard_end.await);
    println!("is the one that spins alive? {}", system.is_alive(spinner));
    // A busy process ends at the end of its slice.
    system.kill(spinner);
    let reason = spinner_end.await;
    assert_eq!(reason, ExitReason::Killed);
    println!("the one that spins ended: {reason}");

    let counters = system.counters();
    println!(
        "{} processes spawned, {} crashed, {} alive with the mailbox; {} turns",
        counters.spawned,
        counters.crashed,
        counters.processes,
        counters
            .schedulers
            .iter()
            .map(|scheduler| scheduler.turns)
            .sum::<u64>(),
    );
    println!("own task: {} ticks", ticks.load(Ordering::Relaxed));
    ticker.abort();

    // Ends the remaining processes, including the echo, and waits for the system's threads. That blocks, so it runs on a thread
    // of its own.
    tokio::task::spawn_blocking(move || system.shutdown()).await?;
    Ok(())
}

/// Asks a process and waits for the answer with the question's reference. Ignores anything else that the process sends, such as
/// late answers to earlier questions.
async fn ask(mailbox: &mut HostMailbox, process: Pid, question: &str) -> Option<String> {
    let reference = mailbox.make_reference();
    let message = Outgoing::new(QUESTION, question.as_bytes()).reference(reference);
    mailbox.send(process, message);
    let answer = mailbox
        .receive(Selector::Reference(reference), Some(ANSWER_TIMEOUT))
        .await?;
    match answer {
        // The payload comes from a guest: it may hold any bytes.
        Event::Message(message) => Some(String::from_utf8_lossy(&message.payload).into_owned()),
        _ => None,
    }
}

/// Counts milliseconds, roughly.
async fn tick(ticks: Arc<AtomicU32>) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        ticks.fetch_add(1, Ordering::Relaxed);
    }
}
