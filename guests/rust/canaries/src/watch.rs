//! The first process: it starts the canaries, tells whoever looks after them how they are, and ends them when asked.
//!
//! | tag | direction | payload |
//! |---|---|---|
//! | [`READY`] | to the host | the pid of a process that echoes, in 16 bytes |
//! | [`FAILED`] | to the host | the name of a canary that has ended, and its exit reason |
//! | [`STOP`] | from the host | nothing |
//! | [`DONE`] | to the host | for each canary: its name, `=`, and what it has done so often; a line each |
//!
//! The process that echoes sends each message back to its sender, with the same tag and payload.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use atoll_guest::{
    Destination, Envelope, Event, Pid, Selector, SpawnError, argument_bytes, monitor, println,
    receive_event, self_pid, send_after_bytes, send_bytes, send_tagged, spawn_link,
};

use crate::work;

pub const READY: u32 = 0x7001;
pub const FAILED: u32 = 0x7002;
pub const STOP: u32 = 0x7003;
pub const DONE: u32 = 0x7004;

/// A canary: its name, and the function that starts it.
pub type Canary = (&'static str, fn() -> Result<Pid, SpawnError>);

struct Watched {
    name: &'static str,
    pid: Pid,
    done: u64,
}

/// Starts the canaries, and looks after them until it is told to stop.
pub fn watch(canaries: &[Canary]) -> Result<(), Box<dyn Error>> {
    let host = host();
    let mut watched = Vec::new();
    for (name, start) in canaries {
        let pid = start()?;
        monitor(pid);
        watched.push(Watched { name, pid, done: 0 });
    }
    let echo: Pid = spawn_link(echo, ())?;
    tell(host, READY, &pid_bytes(echo));
    if host == self_pid() {
        send_after_bytes(Duration::from_secs(2), host, Envelope::tagged(STOP), &[]);
    }
    while let Some(event) = receive_event(&Selector::Any, None) {
        match event {
            Event::Down(down) => {
                let canary = watched
                    .iter()
                    .find(|canary| Destination::Process(canary.pid) == down.target);
                let name = canary.map_or("nobody", |canary| canary.name);
                tell(host, FAILED, format!("{name}: {}", down.reason).as_bytes());
            }
            Event::Message(message) if message.tag == STOP && message.sender == host => break,
            Event::Message(message) if message.tag == FAILED => {
                return Err(String::from_utf8_lossy(&message.payload).into());
            }
            _ => {}
        }
    }
    let report = stop(host, &mut watched);
    if host == self_pid() {
        println!("{}", report.trim_end());
    }
    tell(host, DONE, report.as_bytes());
    Ok(())
}

/// Asks all canaries to end, and gathers what they have done. A canary that does not answer fails.
fn stop(host: Pid, watched: &mut [Watched]) -> String {
    let ended: Vec<_> = watched.iter().map(|canary| monitor(canary.pid)).collect();
    for canary in watched.iter() {
        send_tagged(canary.pid, work::END, &self_pid());
    }
    let mut report = String::new();
    for (canary, ended) in watched.iter_mut().zip(ended) {
        match receive_event(&Selector::Reference(ended), Some(work::LONG)) {
            Some(Event::Down(down)) => match work::done(&down.reason) {
                Some(done) => canary.done = done,
                None => {
                    let text = format!("{}: {}", canary.name, down.reason);
                    tell(host, FAILED, text.as_bytes());
                }
            },
            _ => tell(
                host,
                FAILED,
                format!("{}: it hangs", canary.name).as_bytes(),
            ),
        }
        let _ = writeln!(report, "{}={}", canary.name, canary.done);
    }
    report
}

fn echo(_: ()) {
    while let Some(event) = receive_event(&Selector::Any, None) {
        if let Event::Message(message) = event {
            send_bytes(
                message.sender,
                Envelope::tagged(message.tag),
                &message.payload,
            );
        }
    }
}

/// The process that looks after the canaries: the one that the argument names, or else the first process itself.
fn host() -> Pid {
    let argument = argument_bytes();
    match (argument.get(..8), argument.get(8..16)) {
        (Some(node), Some(id)) => Pid {
            node: u64::from_le_bytes(node.try_into().unwrap_or_default()),
            id: u64::from_le_bytes(id.try_into().unwrap_or_default()),
        },
        _ => self_pid(),
    }
}

fn pid_bytes(pid: Pid) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&pid.node.to_le_bytes());
    bytes[8..].copy_from_slice(&pid.id.to_le_bytes());
    bytes
}

fn tell(host: Pid, tag: u32, payload: &[u8]) {
    send_bytes(host, Envelope::tagged(tag), payload);
}
