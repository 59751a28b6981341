//! million: a million hibernated processes, each with a state of its own. It wakes all of them and checks every answer.
//! Argument: processes (1000000).
//!
//! Each process asks to be hibernated whenever it waits, and then takes some hundred bytes. The figures are the host's, from
//! `/proc/self/status`, which the command line has to grant: `--dir /proc/self::/proc/self:ro`.

use std::error::Error;

use atoll_guest::{Pid, arg_or, hibernate, println, receive, self_pid, send, spawn, time};
use host_status::{HostStatus, StatusError};

atoll_guest::entry!(main);

/// How many processes are spawned or woken before main waits for their answers: a mailbox is bounded.
const AT_ONCE: usize = 1000;
/// The numbers that each process keeps.
const STATE: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = arg_or(0, 1_000_000)?;
    let mut sleepers: Vec<Pid> = Vec::with_capacity(count);

    let before = HostMemory::read()?;
    let clock = Clock::start();
    for first in (0..count).step_by(AT_ONCE) {
        let numbers = first..count.min(first + AT_ONCE);
        for number in numbers.clone() {
            sleepers.push(spawn(sleeper, (self_pid(), number as u64))?);
        }
        for _ in numbers {
            receive::<()>()?;
        }
    }
    println!("million: {count} processes sleep, {}", clock.told(count));
    let asleep = HostMemory::read()?;
    asleep.tell("asleep", &before, count);

    for round in 1..=2 {
        let clock = Clock::start();
        for (batch, pids) in sleepers.chunks(AT_ONCE).enumerate() {
            for &pid in pids {
                send(pid, &round);
            }
            let mut wrong = 0;
            for _ in pids {
                let (number, answer) = receive::<(u64, u64)>()?.message;
                let is_of_batch = number as usize / AT_ONCE == batch;
                wrong += usize::from(!is_of_batch || answer != expected(number, round));
            }
            assert!(wrong == 0, "{wrong} answers are wrong");
        }
        println!(
            "million: all woken (round {round}), every answer is right, {}",
            clock.told(count)
        );
    }
    HostMemory::read()?.tell("asleep again", &before, count);

    let clock = Clock::start();
    for pids in sleepers.chunks(AT_ONCE) {
        for &pid in pids {
            send(pid, &0_u64);
        }
        for _ in pids {
            receive::<()>()?;
        }
    }
    println!("million: all have ended, {}", clock.told(count));
    let end = HostMemory::read()?;
    println!(
        "the host held {} MiB at most",
        end.most_resident_bytes >> 20
    );
    Ok(())
}

/// Tells main that it is there and waits. When main wakes it, it computes an answer from its state. It runs until main tells
/// it to end.
fn sleeper((main, number): (Pid, u64)) -> Result<(), Box<dyn Error>> {
    let mut state: Vec<u64> = (0..STATE).map(|index| number + index).collect();
    send(main, &());
    loop {
        hibernate();
        let round = receive::<u64>()?.message;
        if round == 0 {
            send(main, &());
            return Ok(());
        }
        for kept in &mut state {
            *kept = kept.wrapping_mul(31).wrapping_add(round);
        }
        let answer = state
            .iter()
            .fold(0, |sum: u64, kept| sum.wrapping_add(*kept));
        send(main, &(number, answer));
    }
}

/// The answer of a process in the given round.
fn expected(number: u64, rounds: u64) -> u64 {
    let kept = |index: u64| {
        let step = |kept: u64, round: u64| kept.wrapping_mul(31).wrapping_add(round);
        (1..=rounds).fold(number + index, step)
    };
    (0..STATE).fold(0, |sum: u64, index| sum.wrapping_add(kept(index)))
}

struct Clock {
    start_ns: u64,
}

impl Clock {
    fn start() -> Self {
        let start_ns = time::now_ns();
        Self { start_ns }
    }

    fn told(&self, count: usize) -> String {
        // Prints whole numbers only: printing others needs tables, which are data that each process would hold.
        let hundredths = |of: u64| format!("{}.{:02}", of / 100, of % 100);
        let microseconds = (time::now_ns() - self.start_ns) / 1000;
        format!(
            "{} s, {} us each",
            hundredths(microseconds / 10_000),
            hundredths(microseconds * 100 / count.max(1) as u64)
        )
    }
}

/// The memory that the host uses.
struct HostMemory {
    resident_bytes: u64,
    page_table_bytes: u64,
    most_resident_bytes: u64,
}

impl HostMemory {
    fn read() -> Result<Self, StatusError> {
        let status = HostStatus::read()?;
        Ok(Self {
            resident_bytes: status.bytes("VmRSS")?,
            page_table_bytes: status.bytes("VmPTE")?,
            most_resident_bytes: status.bytes("VmHWM")?,
        })
    }

    fn tell(&self, what: &str, before: &Self, count: usize) {
        let each = |before: u64, after: u64| after.saturating_sub(before) / count.max(1) as u64;
        let pages = each(before.resident_bytes, self.resident_bytes);
        let tables = each(before.page_table_bytes, self.page_table_bytes);
        println!(
            "{what}: {} resident bytes per process ({pages} in pages, {tables} in page tables)",
            pages + tables
        );
    }
}
