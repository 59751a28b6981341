//! Who has waited long enough to be hibernated.
//!
//! Knows how long processes have been waiting, and how much memory the machine has left; never what hibernation does
//! ([`Execution::hibernate`](super::program::Execution::hibernate)). A thread of its own looks at the table now and
//! then: who waited already at the look before is hibernated. While that is done the process counts as running, so that
//! what is sent to it meanwhile is noticed afterwards, as at the end of a turn.

use super::Shared;
use super::control::{Awaits, Control, Phase};
use super::memory;
use super::table::{Entry, idleness, lock};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the machine's memory is looked at.
const MEMORY_LOOKS_APART: Duration = Duration::from_millis(100);
/// However short the time that processes may wait, the table is looked at no more often.
const LOOKS_APART_MIN: Duration = Duration::from_millis(1);
/// Memory is short when less than one part in so many is available.
const SHORT_PARTS: u64 = 8;

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
            .spawn(move || shared.hibernate_idle(after, &told))?;
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

impl Shared {
    /// Is this process, whose turn has ended, to be hibernated now?
    #[inline]
    pub(super) fn hibernates_at_once(&self, control: &Control) -> bool {
        match self.config.hibernate_after {
            None => false,
            Some(after) => control.hibernates || after.is_zero(),
        }
    }

    fn hibernate_idle(&self, after: Duration, stop: &Stop) {
        let apart = after.clamp(LOOKS_APART_MIN, MEMORY_LOOKS_APART);
        let mut since_look = Duration::ZERO;
        while !stop.wait(apart) {
            since_look += apart;
            let is_due = since_look >= after;
            let is_short = memory_is_short();
            if !is_due && !is_short {
                continue;
            }
            if is_due {
                since_look = Duration::ZERO;
            }
            for (index, entry) in self.table.entries() {
                self.look_at(index, entry, is_short);
            }
        }
    }

    fn look_at(&self, index: u32, entry: &Entry, is_short: bool) {
        match entry.idleness.load(Ordering::Relaxed) {
            idleness::NONE => return,
            idleness::JUST_NOW if !is_short => {
                // Who begins a turn meanwhile says so; then this says nothing.
                let _ = entry.idleness.compare_exchange(
                    idleness::JUST_NOW,
                    idleness::FOR_A_LOOK,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                return;
            }
            _ => {}
        }
        let mut control = entry.control();
        let is_idle = control.phase == Phase::Waiting && control.waits_for_mail();
        let Some(mut body) = control.body.take_if(|_| is_idle) else {
            return;
        };
        control.phase = Phase::Running;
        control.seems_to_wait = true;
        entry.idleness.store(idleness::NONE, Ordering::Relaxed);
        drop(control);
        body.hibernate();
        let mut control = entry.control();
        debug_assert_eq!(control.awaits, Awaits::Mail);
        control.shrink();
        control.seems_to_wait = false;
        control.body = Some(body);
        control.phase = Phase::Waiting;
        if control.waits_for_mail() {
            return;
        }
        // What came meanwhile did nothing, because the process seemed to run.
        let nudge = match control.ending {
            Some(_) => control.end_again(),
            None => control.mail(),
        };
        drop(control);
        self.carry_out(index, nudge);
    }
}

/// Has the machine, or the control group that this program is in, little memory left?
fn memory_is_short() -> bool {
    memory::limits().any(|(total, available)| available < total / SHORT_PARTS)
}
