//! The thread that has processes hibernated that wait for long, or when memory is short.

use crate::system::table::lock;
use crate::system::{Shared, memory};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the machine's memory is looked at.
const MEMORY_LOOKS_APART: Duration = Duration::from_millis(100);
/// However short the time that processes may wait, the table is looked at no more often.
const LOOKS_APART_MIN: Duration = Duration::from_millis(1);

/// The thread. Ends when this is dropped.
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
    /// None if nobody is ever hibernated.
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
            .spawn(move || look(&shared, after, &told))?;
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
    /// Waits for so long; true if it was told to stop.
    fn wait(&self, time: Duration) -> bool {
        let is_told = lock(&self.is_told);
        let waited = self.told.wait_timeout_while(is_told, time, |told| !*told);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Looks at the table now and then, until it is told to stop.
fn look(shared: &Shared, after: Duration, stop: &Stop) {
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
