//! bench: the functions that the benchmarks start, on the guest SDK. It has all functions of `bench-wat`, with the same
//! arguments; the difference between the two is the cost of the SDK. Its other functions do the same work as Erlang programs.
//!
//! The argument has 24 bytes, little-endian: n and m (u32), node and id (u64) of the process to report to. The report has tag
//! 1 and holds numbers (u64): the nanoseconds of the whole work, and those of each sample if the function takes samples.
//!
//! | function | n | m |
//! |---|---|---|
//! | `spawn-exit` | processes, each spawned when the last one has sent its message | |
//! | `spawn-batch` | processes that end at once, and one more that is waited for | |
//! | `spawn-monitor-seq` | processes, each spawned when the last one's end is known | |
//! | `spawn-monitor-batch` | processes, whose ends are awaited when all are spawned | |
//! | `link-cascade` | processes linked to one, which ends: how long until all are gone | |
//! | `ping-pong` | round trips | bytes of payload |
//! | `ring` | hops | processes |
//! | `fan-in` | messages to one process, of all producers together | producers |
//! | `pairs` | round trips with computing in between, of all pairs together | pairs |
//! | `sieve` | the largest number that is looked at | how many primes there are up to it |
//! | `nbody` | steps of five bodies | |
//! | `selrecv-value` | requests whose answers are received by tag | messages that wait and are none |
//! | `selrecv-reference` | requests whose answers are received by a new reference | the same |
//! | `request-reply` | calls | |
//! | `timers` | timers set at once; samples: how late each was | |
//! | `receive-after` | receives that time out; samples: how long each took | milliseconds each should take |
//! | `fairness` | busy loops; samples: round trips beside them | milliseconds in which to take samples |
//! | `crowd` | processes that sleep, of the program that the host names | how many are woken at once |
//! | `echo` | sends every message back; needs no argument | |
//! | `idle` | waits until any message comes; needs no argument | |

mod cpu;
mod crowd;
mod fairness;
mod messages;
mod selective;
mod spawning;
mod timing;

use std::error::Error;

use atoll_guest::{Envelope, Event, Pid, Selector, println, receive_event, send_bytes, time};

/// The tag of reports.
const REPORT: u32 = 1;
/// The tag of the payload that goes to and fro.
const BALL: u32 = 2;
/// The tag that tells [`echo`] to end.
const STOP: u32 = 3;

atoll_guest::entry!(main);
atoll_guest::export!("spawn-exit", spawning::spawn_exit);
atoll_guest::export!("spawn-batch", spawning::spawn_batch);
atoll_guest::export!("spawn-monitor-seq", spawning::spawn_monitor_seq);
atoll_guest::export!("spawn-monitor-batch", spawning::spawn_monitor_batch);
atoll_guest::export!("link-cascade", spawning::link_cascade);
atoll_guest::export!("ping-pong", messages::ping_pong);
atoll_guest::export!("ring", messages::ring);
atoll_guest::export!("fan-in", messages::fan_in);
atoll_guest::export!("pairs", messages::pairs);
atoll_guest::export!("sieve", cpu::sieve);
atoll_guest::export!("nbody", cpu::nbody);
atoll_guest::export!("crowd", crowd::crowd);
atoll_guest::export!("echo", echo);
atoll_guest::export!("selrecv-value", selective::by_value);
atoll_guest::export!("selrecv-reference", selective::by_reference);
atoll_guest::export!("request-reply", selective::request_reply);
atoll_guest::export!("timers", timing::timers);
atoll_guest::export!("receive-after", timing::receive_after);
atoll_guest::export!("fairness", fairness::fairness);
atoll_guest::export!("idle", idle);

fn main() {
    println!("`cargo xtask bench` starts this program's functions; this one has nothing to do");
}

/// An array of bytes is encoded as just these bytes, so the host can write it.
type Argument = [u8; 24];
type Outcome = Result<(), Box<dyn Error>>;

/// The numbers n and m.
fn numbers(argument: &Argument) -> [u32; 2] {
    [0, 4].map(|at| u32::from_le_bytes(std::array::from_fn(|index| argument[at + index])))
}

/// Does the work and reports its duration.
fn measure(argument: &Argument, work: impl FnOnce() -> Outcome) -> Outcome {
    let elapsed_ns = timed(work)?;
    report(argument, elapsed_ns, &[]);
    Ok(())
}

/// Measures the work in nanoseconds.
fn timed(work: impl FnOnce() -> Outcome) -> Result<u64, Box<dyn Error>> {
    let start_ns = time::now_ns();
    work()?;
    Ok(time::now_ns() - start_ns)
}

fn report(argument: &Argument, elapsed_ns: u64, samples_ns: &[u64]) {
    let [node, id] =
        [8, 16].map(|at| u64::from_le_bytes(std::array::from_fn(|index| argument[at + index])));
    let mut payload = Vec::with_capacity(size_of::<u64>() * (1 + samples_ns.len()));
    for number in [elapsed_ns].iter().chain(samples_ns) {
        payload.extend(number.to_le_bytes());
    }
    send_bytes(Pid { node, id }, Envelope::tagged(REPORT), &payload);
}

/// Sends every message back to its sender, unchanged.
fn echo(_: ()) {
    while let Some(Event::Message(message)) = receive_event(&Selector::Any, None)
        && message.tag != STOP
    {
        let envelope = Envelope {
            tag: message.tag,
            reference: message.reference,
            format: message.format,
        };
        send_bytes(message.sender, envelope, &message.payload);
    }
}

/// Ends an [`echo`].
fn stop(echo: Pid) {
    send_bytes(echo, Envelope::tagged(STOP), &[]);
}

fn idle(_: ()) {
    receive_event(&Selector::Any, None);
}
