//! Cleans the large memories of processes that have ended, on a thread of its own.
//!
//! The kernel takes a tenth of a second to take back a gigabyte, in which a scheduler would run no process. The process
//! that touched the memory can't pay for that, because it has ended. The kernel takes pages back faster than processes
//! can touch them, and at most [`QUEUED_BYTES_MAX`] wait; beyond that a scheduler does the work.

use super::backlog::Backlog;
use super::given::Large;
use super::{GIB, MIB, lock};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A smaller memory is cleaned at once, which takes a millisecond or two.
const REAPED_BYTES_MIN: usize = 16 * MIB;
/// The most that may wait, if there are several memories.
const QUEUED_BYTES_MAX: usize = GIB;

pub(super) struct Reaper {
    /// None as long as there is no thread.
    sender: Mutex<Option<Sender<Abandoned>>>,
    queued: Arc<Backlog>,
}

/// A memory whose process has ended, and how much of it may have been touched.
struct Abandoned {
    memory: Large,
    used_bytes: usize,
}

impl Reaper {
    pub(super) fn new() -> Reaper {
        Reaper {
            sender: Mutex::new(None),
            queued: Arc::new(Backlog::new()),
        }
    }

    /// Queues a memory to be cleaned and given back soon. Returns it if the caller should do that at once.
    ///
    /// # Safety
    ///
    /// The caller is the memory's only owner, and nothing has a reference into it.
    pub(super) unsafe fn take(&self, memory: Large, used_bytes: usize) -> Result<(), Large> {
        if used_bytes < REAPED_BYTES_MIN {
            return Err(memory);
        }
        if !self.queued.add(used_bytes, QUEUED_BYTES_MAX) {
            return Err(memory);
        }
        let sent = self.send(Abandoned { memory, used_bytes });
        sent.map_err(|abandoned| {
            self.queued.remove(used_bytes);
            abandoned.memory
        })
    }

    fn send(&self, abandoned: Abandoned) -> Result<(), Abandoned> {
        let mut sender = lock(&self.sender);
        if sender.is_none() {
            let (new, receiver) = channel();
            let queued = self.queued.clone();
            let thread = std::thread::Builder::new()
                .name("atoll-reaper".into())
                .spawn(move || reap(receiver, &queued));
            if thread.is_err() {
                return Err(abandoned);
            }
            *sender = Some(new);
        }
        match &*sender {
            Some(sender) => sender.send(abandoned).map_err(|unsent| unsent.0),
            None => Err(abandoned),
        }
    }
}

/// Cleans memories until the sender is dropped.
fn reap(receiver: Receiver<Abandoned>, queued: &Backlog) {
    for mut abandoned in receiver {
        // SAFETY: the thread that sent the memory was its only owner, as it promised to `Reaper::take`, and has handed
        // it over.
        unsafe { abandoned.memory.clean(abandoned.used_bytes) };
        drop(abandoned.memory);
        queued.remove(abandoned.used_bytes);
    }
}
