//! spinner: busy loops beside processes that need answers in time. Arguments: busy processes (4), seconds (2).
//!
//! It shows preemption. The host interrupts processes that never wait, so a pair of processes exchanges messages, a timer
//! fires and a file is read meanwhile. It prints how late they are. The command line has to grant the file: `--dir
//! guests/rust/spinner::/spinner:ro`.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    Pid, arg_or, call, println, receive, receive_tagged, receive_timeout, self_pid, send_tagged,
    sleep, spawn, time,
};
use serde::{Deserialize, Serialize};

/// The file that the reader reads again and again.
const FILE: &str = "/spinner/Cargo.toml";
/// The delay of the timer, and the pause between two reads.
const MILLISECOND: Duration = Duration::from_millis(1);

/// The tags of the reports.
const TALKER: u32 = 1;
const TIMER: u32 = 2;
const READER: u32 = 3;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let busy: u32 = arg_or(0, 4)?;
    let seconds: u64 = arg_or(1, 2)?;

    // Checked before anything else starts: without the grant the reader can't work.
    std::fs::read(FILE).map_err(|error| format!("{FILE}: {error}"))?;

    for _ in 0..busy {
        spawn(spin, ())?;
    }
    let job = Job {
        main: self_pid(),
        end_ns: time::now_ns() + seconds * 1_000_000_000,
    };
    spawn(talk, job)?;
    spawn(watch_timer, job)?;
    spawn(read_file, job)?;

    let talker = receive_tagged::<Report>(TALKER)?.message;
    let timer = receive_tagged::<Report>(TIMER)?.message;
    let reader = receive_tagged::<Report>(READER)?.message;
    println!("beside {busy} busy loops, for {seconds} s:");
    println!(
        "  a pair talking: {} round trips per second, worst {} µs",
        talker.count / seconds.max(1),
        talker.worst_us
    );
    println!(
        "  a 1 ms timer: late by {} µs (median), worst {} µs",
        timer.median_us, timer.worst_us
    );
    println!(
        "  a file read: {} µs (median), worst {} µs",
        reader.median_us, reader.worst_us
    );
    // The busy loops end because this process ends, which is the system's first.
    Ok(())
}

/// Never waits, and never calls the host.
fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}

/// The argument of the three watchers: the process to report to, and the end of the measurement.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Job {
    main: Pid,
    end_ns: u64,
}

/// The report of a watcher.
#[derive(Serialize, Deserialize)]
struct Report {
    count: u64,
    median_us: u64,
    worst_us: u64,
}

/// Makes round trips to a partner as often as it can.
fn talk(job: Job) -> Result<(), Box<dyn Error>> {
    let partner = spawn(answer, ())?;
    let (mut count, mut worst_ns) = (0, 0);
    let mut now_ns = time::now_ns();
    while now_ns < job.end_ns {
        let () = call(partner, &(), Duration::from_secs(60))?;
        let start_ns = now_ns;
        now_ns = time::now_ns();
        worst_ns = worst_ns.max(now_ns - start_ns);
        count += 1;
    }
    // There are very many round trips, so the report gives their count, and not their median.
    send_tagged(
        job.main,
        TALKER,
        &Report {
            count,
            median_us: 0,
            worst_us: worst_ns / 1000,
        },
    );
    Ok(())
}

/// Answers everything.
fn answer(_: ()) -> Result<(), Box<dyn Error>> {
    loop {
        receive::<()>()?.reply(&());
    }
}

/// Waits for messages that never come, and notes by how much each wait exceeds a millisecond.
fn watch_timer(job: Job) -> Result<(), Box<dyn Error>> {
    let late_by = || {
        let start_ns = time::now_ns();
        receive_timeout::<()>(MILLISECOND)?;
        let elapsed = Duration::from_nanos(time::now_ns() - start_ns);
        Ok(elapsed.saturating_sub(MILLISECOND))
    };
    send_tagged(job.main, TIMER, &measure(job, late_by)?);
    Ok(())
}

/// Reads a file, and notes the duration. The host reads beside the schedulers.
fn read_file(job: Job) -> Result<(), Box<dyn Error>> {
    let read = || {
        sleep(MILLISECOND);
        let start_ns = time::now_ns();
        std::fs::read(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        Ok(Duration::from_nanos(time::now_ns() - start_ns))
    };
    send_tagged(job.main, READER, &measure(job, read)?);
    Ok(())
}

/// Takes samples until the time is over.
fn measure(
    job: Job,
    mut sample: impl FnMut() -> Result<Duration, Box<dyn Error>>,
) -> Result<Report, Box<dyn Error>> {
    let mut samples = Vec::new();
    while samples.is_empty() || time::now_ns() < job.end_ns {
        samples.push(sample()?.as_micros() as u64);
    }
    samples.sort_unstable();
    Ok(Report {
        count: samples.len() as u64,
        median_us: samples[samples.len() / 2],
        worst_us: samples[samples.len() - 1],
    })
}
