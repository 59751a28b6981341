//! crowd: as many processes as you like, all alive at once, and what one of them takes. Argument: processes (100000).
//!
//! It shows that a waiting process is cheap enough to have one for every connection, player or parcel. The figures are
//! the host's, read from `/proc/self/status`, which the command line has to grant: `--dir /proc/self::/proc/self:ro`.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{Pid, arg_or, is_alive, println, receive, self_pid, send, sleep, spawn};

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = arg_or(0, 100_000)?;
    let mut crowd = Vec::with_capacity(count);

    let before = HostMemory::read()?;
    for _ in 0..count {
        crowd.push(spawn(member, self_pid())?);
    }
    for _ in 0..count {
        receive::<()>()?;
    }
    let after = HostMemory::read()?;

    let alive = crowd.iter().filter(|&&pid| is_alive(pid)).count();
    println!("crowd: {alive} processes are waiting");
    let each = |before: u64, after: u64| after.saturating_sub(before) / count.max(1) as u64;
    println!(
        "resident bytes per process: {} (page tables: {})",
        each(before.resident_bytes, after.resident_bytes),
        each(before.page_table_bytes, after.page_table_bytes),
    );

    for &pid in &crowd {
        send(pid, &());
    }
    while crowd.iter().any(|&pid| is_alive(pid)) {
        sleep(Duration::from_millis(1));
    }
    println!("crowd: 0 processes are left");
    Ok(())
}

/// Says that it is there, and waits for the end.
fn member(main: Pid) -> Result<(), Box<dyn Error>> {
    send(main, &());
    receive::<()>()?;
    Ok(())
}

/// What the host uses.
struct HostMemory {
    resident_bytes: u64,
    page_table_bytes: u64,
}

impl HostMemory {
    fn read() -> Result<Self, Box<dyn Error>> {
        let status = read_status().map_err(|error| {
            format!("reading status in the directory granted by --dir: {error}")
        })?;
        // "VmRSS:	  123456 kB"
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number =
                line.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<u64>().ok());
            number
                .map(|kibibytes| kibibytes * 1024)
                .ok_or_else(|| format!("no {field} in status"))
        };
        Ok(Self {
            resident_bytes: bytes("VmRSS:")?,
            page_table_bytes: bytes("VmPTE:")?,
        })
    }
}

/// Reads the file `status`, by WASI's own functions: a program for `wasm32-wasip1` could use `std::fs`, but there the C
/// library may look for granted directories when a process starts, and each of the crowd would pay for that.
fn read_status() -> Result<String, wasip1::Errno> {
    // The first directory that is granted follows the three standard streams.
    const GRANTED: wasip1::Fd = 3;
    // More than the kernel has to say.
    let mut text = vec![0; 16 << 10];
    let buffer = wasip1::Iovec {
        buf: text.as_mut_ptr(),
        buf_len: text.len(),
    };
    // SAFETY: `buffer` describes `text`, which nobody else uses meanwhile.
    let length = unsafe {
        let file = wasip1::path_open(GRANTED, 0, "status", 0, wasip1::RIGHTS_FD_READ, 0, 0)?;
        let length = wasip1::fd_read(file, &[buffer])?;
        wasip1::fd_close(file)?;
        length
    };
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}
