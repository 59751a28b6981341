//! neighbours: a service under full load, alone and beside attackers.
//!
//! It measures how many requests a second the service answers and how long the callers wait: alone, beside attackers that each
//! have a rate, and beside the same attackers without one. The argument is the number of seconds for each.

mod attackers;

use atoll_guest::{
    Pid, Spawn, arg_or, call, kill, kill_tree, println, receive, self_pid, send, sleep, spawn, time,
};
use attackers::ATTACKERS;
use std::error::Error;
use std::time::Duration;

/// The callers that ask the service at the same time.
const CALLERS: usize = 64;
/// The share of a core that each attacker has, in thousandths.
const RATE: u32 = 20;
const LONG: Duration = Duration::from_secs(60);

/// Waits are counted in steps of so many nanoseconds.
const STEP_NS: u64 = 1000;
/// Longer waits are counted as so many steps.
const STEPS: usize = 4096;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let seconds: u64 = arg_or(1, 2)?;
    // The first run warms everything up.
    measure(1)?;
    let alone = measure(seconds)?;
    alone.print("alone");
    let rated = beside(seconds, Some(RATE))?;
    rated.print("beside attackers with a rate");
    let unrated = beside(seconds, None)?;
    unrated.print("beside attackers without a rate");
    println!(
        "with a rate: {:.0} % of the requests, {:.1} times the wait of one in a hundred",
        100.0 * rated.requests as f64 / alone.requests as f64,
        rated.wait_ns(0.99) as f64 / alone.wait_ns(0.99) as f64
    );
    Ok(())
}

/// Measures the service beside the attackers.
fn beside(seconds: u64, rate: Option<u32>) -> Result<Load, Box<dyn Error>> {
    let mut roots = Vec::new();
    for (name, attack) in ATTACKERS {
        let mut tree = Spawn::new()
            .label(*name)
            .max_tree_memory(32 << 20)
            .max_processes(100)
            .max_messages(1000)
            .max_ties(1000);
        if let Some(rate) = rate {
            tree = tree.max_rate(rate);
        }
        roots.push(attack(tree)?);
    }
    // They need a moment to become a nuisance.
    sleep(Duration::from_millis(200));
    let load = measure(seconds);
    roots.into_iter().for_each(|root| {
        kill_tree(root);
    });
    load
}

/// The waits that the callers have seen.
struct Load {
    requests: u64,
    seconds: f64,
    /// How many waits took so many steps.
    waits: Vec<u32>,
}

impl Load {
    /// The wait that this share of the requests did not exceed.
    fn wait_ns(&self, share: f64) -> u64 {
        let wanted = (self.requests as f64 * share) as u64;
        let mut seen = 0;
        for (step, count) in self.waits.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return (step as u64 + 1) * STEP_NS;
            }
        }
        STEPS as u64 * STEP_NS
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<32} {:>9.0} requests/s, waits: {:>5} us half, {:>5} us 99 %",
            self.requests as f64 / self.seconds,
            self.wait_ns(0.5) / 1000,
            self.wait_ns(0.99) / 1000
        );
    }
}

/// Lets the callers ask the service for so long.
fn measure(seconds: u64) -> Result<Load, Box<dyn Error>> {
    let service = spawn(serve, ())?;
    let began_ns = time::now_ns();
    let deadline_ns = began_ns + seconds * 1_000_000_000;
    for _ in 0..CALLERS {
        spawn(ask, (self_pid(), service, deadline_ns))?;
    }
    let mut waits = vec![0_u32; STEPS];
    for _ in 0..CALLERS {
        let seen: Vec<u32> = receive()?.message;
        for (sum, count) in waits.iter_mut().zip(seen) {
            *sum += count;
        }
    }
    let ended_ns = time::now_ns();
    kill(service);
    Ok(Load {
        requests: waits.iter().map(|count| u64::from(*count)).sum(),
        seconds: (ended_ns - began_ns) as f64 / 1e9,
        waits,
    })
}

/// The service: adds one.
fn serve((): ()) -> Result<(), Box<dyn Error>> {
    loop {
        let request = receive::<u64>()?;
        request.reply(&(request.message + 1));
    }
}

/// Asks the service until the deadline, and counts the waits.
fn ask((client, service, deadline_ns): (Pid, Pid, u64)) -> Result<(), Box<dyn Error>> {
    let mut waits = vec![0_u32; STEPS];
    let mut number = 0_u64;
    let mut now_ns = time::now_ns();
    while now_ns < deadline_ns {
        number = call(service, &number, LONG)?;
        let answered_ns = time::now_ns();
        let step = ((answered_ns - now_ns) / STEP_NS) as usize;
        waits[step.min(STEPS - 1)] += 1;
        now_ns = answered_ns;
    }
    send(client, &waits);
    Ok(())
}
