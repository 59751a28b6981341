//! A system: the process table, signals, limits, and the ties between processes.
//!
//! This room decides everything that happens to processes. It never sees wasmtime's types (a program is a
//! [`program::Runnable`], an execution a [`program::Body`]), nor a thread or a clock: the scheduler calls
//! [`Work::run`](crate::scheduler::Work::run) for one turn, and time comes from its seam. An embedding program uses
//! the system through [`crate::runtime`].
//!
//! | file | holds |
//! |---|---|
//! | here | the state that all processes share, and the delivery of events |
//! | `table`, `control` | the process table, and the part of a process that others may touch |
//! | `current`, `turn_context` | a process seen from inside its turn |
//! | `working_set` | what a process touches next, prefetched |
//! | `turn`, `waker` | one turn, and what schedules the next one when a host call is complete |
//! | `program` | the traits that programs and executions implement for this room |
//! | `domain`, `limits`, `rate`, `rights` | trees of processes: what they may use and do, and what they have used |
//! | `tree` | their turns, and the end of whole trees |
//! | `memory` | the memory of the machine |
//! | `hibernation` | the choice of processes that have waited long enough to be hibernated |
//! | `spawn`, `teardown`, `farewell` | a process's beginning, its teardown, and the steps of a teardown as data |
//! | `signals`, `calls`, `timers`, `alarm`, `names`, `groups`, `namespace` | the ties between processes |
//! | `inspect`, `report` | information about processes |
//! | `stop` | the end of all processes |
//!
//! ```text
//!   guest code                    system                               scheduler
//!   ----------                    ------                               ---------
//!   send ───────────────────────► deliver ──► entry's lock: arrived
//!                                    └─ receiver waits for mail? ─────► schedule
//!   receive ──► Current::receive: own queue, then what arrived
//!      └─ nothing: awaits = Mail, give up the turn ──► end of run: Parked
//!                                                                      arm ──► fire ──► expired, schedule
//!   spawn ──► Shared::spawn: entry, instance ───────────────────────► schedule
//!   return, trap, exit ──► end of run: finish: drop all, tell linked processes, then monitoring ones
//! ```

pub(crate) mod alarm;
pub(crate) mod calls;
pub(crate) mod control;
pub(crate) mod current;
pub(crate) mod domain;
pub(crate) mod groups;
pub(crate) mod memory;
pub(crate) mod program;
pub(crate) mod spawn;
pub(crate) mod table;
pub(crate) mod timers;
pub(crate) mod turn_context;
pub(crate) mod waker;
pub(crate) mod working_set;

mod config;
mod farewell;
mod hibernation;
mod inspect;
pub(crate) mod limits;
pub(crate) mod locks;
mod names;
mod namespace;
mod rate;
mod report;
pub(crate) mod rights;
mod signals;
mod stop;
mod teardown;
mod tree;
mod turn;

pub use config::{Config, CrashHook, Error};
pub use domain::{Spent, TreeInfo};
pub use inspect::{Holdings, ProcessInfo, Status};
pub use limits::{Limits, Overflow};
pub use namespace::RegisterError;
pub use program::{Program, SpawnError};
pub use report::{Counters, CrashReport, Hibernation};
pub use rights::{Rights, TreeOptions};
pub use spawn::Spawn;
pub use tree::Tree;

use crate::process::{Event, Mint, Outgoing, Pid, Reference};
use crate::scheduler::{self, Scheduler, Seam};
use control::WakeAction;
use domain::Domain;
use locks::lock_write;
use report::Tally;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use table::Table;

/// Observes the ends of guest processes. The runtime implements it, so that a thread can wait until processes have
/// ended.
pub(crate) trait ExitObserver: Send + Sync {
    /// A guest process has ended, and `left` guest processes are left.
    fn process_ended(&self, left: u32);
}

/// The state that all processes of a system share.
pub(crate) struct Shared {
    this: Weak<Shared>,
    pub(crate) table: Table,
    pub(crate) scheduler: Arc<Scheduler<Shared>>,
    pub(crate) config: Config,
    counters: Tally,
    programs: RwLock<HashMap<String, Program>>,
    /// The domain of processes that have none of their own.
    pub(crate) domain: Arc<Domain>,
    reference_mint: Mint,
    references: AtomicU64,
    stopping: AtomicBool,
    /// Processes with code to run: all but the host's mailboxes.
    guests: AtomicU32,
    exit_observer: Arc<dyn ExitObserver>,
}

impl Shared {
    /// A system without threads and programs.
    pub(crate) fn new(
        config: Config,
        seam: &Arc<Seam>,
        exit_observer: Arc<dyn ExitObserver>,
    ) -> Arc<Shared> {
        let options = scheduler::Options {
            schedulers: config.schedulers,
            seam: seam.clone(),
        };
        let mint = || Mint::new(|| seam.random_u64());
        let scheduler = Scheduler::new(options);
        Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            table: Table::new(mint(), config.max_processes),
            counters: Tally::default(),
            programs: RwLock::default(),
            domain: Domain::system(
                config.each(),
                config.capabilities(),
                config.max_total_memory,
                Arc::downgrade(&scheduler),
            ),
            scheduler,
            reference_mint: mint(),
            references: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            guests: AtomicU32::new(0),
            exit_observer,
            config,
        })
    }

    /// Registers a program under a name. Processes of a program that had the name before go on running.
    pub(crate) fn add_program(&self, name: &str, program: Program) {
        lock_write(&self.programs).insert(name.to_owned(), program);
    }

    /// Puts an event into a process's mailbox, if the process lives. OTP: signals are never refused.
    #[inline(always)]
    pub(crate) fn deliver(&self, to: Pid, event: Event) {
        if let Some(index) = self.table.index(to) {
            self.deliver_at(index, to, event.weight_bytes(), || event);
        }
    }

    /// Like [`Shared::deliver`], for a caller that knows the entry's index and the event's weight. The event is made
    /// where it will lie.
    #[inline(always)]
    pub(crate) fn deliver_at(
        &self,
        index: u32,
        to: Pid,
        weight: u64,
        event: impl FnOnce() -> Event,
    ) {
        let Some((entry, mut control)) = self.table.find_at(index, to) else {
            return;
        };
        let wake_action = control.receive_new(&self.domain, entry, weight, event);
        drop(control);
        self.carry_out(index, wake_action);
    }

    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.table.find(pid).is_some()
    }

    pub(crate) fn program(&self, name: &str) -> Option<Program> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        programs.get(name).cloned()
    }

    pub(crate) fn make_reference(&self) -> Reference {
        let raw =
            self.references.fetch_add(1, Ordering::Relaxed) & ((1 << crate::process::ID_BITS) - 1);
        self.reference(self.reference_mint.encipher(raw))
    }

    /// The reference with this id.
    fn reference(&self, id: u64) -> Reference {
        Reference {
            node: self.reference_mint.tag(id),
            id,
        }
    }

    pub(crate) fn send_from(&self, sender: Pid, to: Pid, message: Outgoing) {
        self.deliver(to, Event::Message(message.from(sender)));
    }

    #[inline]
    fn carry_out(&self, index: u32, wake_action: WakeAction) {
        match wake_action {
            WakeAction::Nothing => {}
            WakeAction::Schedule(priority, working_set) => {
                if let Some(working_set) = working_set {
                    working_set.prefetch();
                }
                self.scheduler.schedule(index, priority);
            }
            WakeAction::Wake(waker) => waker.wake(),
        }
    }

    /// Drops the bodies of processes that another thread spawned after all processes were told to end. No scheduler
    /// will run them, and each of them holds this `Shared`.
    pub(crate) fn drop_latecomers(&self) {
        for (_, entry) in self.table.entries() {
            let body = entry.control().body.take();
            drop(body);
        }
    }
}
