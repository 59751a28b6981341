//! canaries: processes that notice at once when another process, or the host, harms them. `atoll fuzz` runs them beside
//! attackers.
//!
//! | room | notices |
//! |---|---|
//! | `memory` | a byte that has changed |
//! | `ring` | a message that is lost, doubled, late or changed |
//! | `service` | an answer, a timer or a down-signal that is wrong or does not come |
//! | `crowd` | a hibernated process that has lost its state |
//! | `supervisor` | an exit signal that is wrong or does not come |
//!
//! Started by hand it looks after itself for two seconds and prints what its processes have done. Otherwise its argument is
//! the pid of the process that looks after it, in 16 bytes: see [`watch`].

mod crowd;
mod memory;
mod ring;
mod service;
mod supervisor;
mod watch;
mod work;

use std::error::Error;

use atoll_guest::spawn;

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    watch::watch(&[
        ("memory", || spawn(memory::keep, 1)),
        ("memory", || spawn(memory::keep, 2)),
        ("ring", || spawn(ring::turn, 3)),
        ("client", || spawn(service::ask, 4)),
        ("client", || spawn(service::ask, 5)),
        ("crowd", || spawn(crowd::wake, 6)),
        ("supervisor", || spawn(supervisor::restart, 7)),
    ])
}
