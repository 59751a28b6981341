//! The thread that hibernates processes: those that have waited for long, and all that wait when memory is short.

use crate::system::locks::lock;
use crate::system::{Shared, memory};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The pause between two looks at the machine's memory.
const MEMORY_LOOKS_APART: Duration = Duration::from_millis(100);
/// The shortest pause between two scans of the table, however short the configured time is.
const LOOKS_APART_MIN: Duration = Duration::from_millis(1);

/// The hibernating thread. It ends when this is dropped.
pub(super) struct Hibernator {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    is_told: Mutex<bool>,
    told: Condvar,
}

impl Hibernator {
    /// Starts the thread. Returns none if no process is hibernated by it.
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Option<Hibernator>> {
        let Some(after) = shared
            .config
            .hibernate_after
            .filter(|after| !after.is_zero())
        else {
            return Ok(None);
        };
        let stop = Arc::new(Stop::default());
        let (told, shared) = (stop.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("atoll-hibernator".into())
            .spawn(move || scan_until_stopped(&shared, after, &told))?;
        Ok(Some(Hibernator {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for Hibernator {
    fn drop(&mut self) {
        *lock(&self.stop.is_told) = true;
        self.stop.told.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that hibernates processes panicked");
        }
    }
}

impl Stop {
    /// Waits for this long, or until it was told to stop. Returns whether it was told to stop.
    fn wait(&self, time: Duration) -> bool {
        let is_told = lock(&self.is_told);
        let waited = self.told.wait_timeout_while(is_told, time, |told| !*told);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Scans the table now and then, until it is told to stop.
fn scan_until_stopped(shared: &Shared, after: Duration, stop: &Stop) {
    let apart = after.clamp(LOOKS_APART_MIN, MEMORY_LOOKS_APART);
    let mut since_look = Duration::ZERO;
    while !stop.wait(apart) {
        since_look += apart;
        let is_due = since_look >= after;
        let is_short = memory::is_short();
        if !is_due && !is_short {
            continue;
        }
        if is_due {
            since_look = Duration::ZERO;
        }
        shared.hibernate_idle(is_short);
    }
}
