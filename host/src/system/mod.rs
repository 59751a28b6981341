//! A system: programs, the process table, limits, start and end.
//!
//! This room knows what happens to processes. It never sees wasmtime's types (a program is a [`program::Runnable`],
//! an execution a [`program::Body`]) and never a thread (the scheduler calls [`Work::run`] for one turn).
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
//!   return, trap, exit ──► end of run: finish: drop all, tell watchers
//! ```

pub(crate) mod current;
pub(crate) mod program;
pub(crate) mod spawn;
pub(crate) mod table;

mod config;
mod handover;
mod mailbox;
mod report;
mod turn;
mod watch;

pub use config::{Config, CrashHook, Error};
pub use mailbox::HostMailbox;
pub use report::{Counters, CrashReport};
pub use spawn::{Spawn, SpawnError};
pub use watch::Watch;

use crate::engine::{Engine, LoadError};
use crate::process::{Budget, Cipher, Event, ExitReason, Outgoing, Pid, Reference};
use crate::scheduler::{self, Scheduler, Seam};
use crate::wasi::Wasi;
use program::Runnable;
use report::Tally;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::JoinHandle;
use table::{Nudge, Phase, Table, lock};

/// A running system of processes. Clones are handles to the same one.
///
/// It ends when [`System::shutdown`] is called; dropping the last handle does the same.
#[derive(Clone)]
pub struct System(Arc<Owner>);

/// A loaded program, whose functions can be spawned.
#[derive(Clone)]
pub struct Program(pub(crate) Arc<dyn Runnable>);

/// What ends with the last handle: the threads. Everything else hangs on `shared`, which processes hold too.
struct Owner {
    shared: Arc<Shared>,
    engine: Engine,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    schedulers: Vec<JoinHandle<()>>,
    io: Option<tokio::runtime::Runtime>,
}

/// What all processes of a system share.
pub(crate) struct Shared {
    pub(crate) table: Table,
    pub(crate) scheduler: Arc<Scheduler<Shared>>,
    pub(crate) config: Config,
    counters: Tally,
    programs: RwLock<HashMap<String, Arc<dyn Runnable>>>,
    node: u64,
    reference_cipher: Cipher,
    references: AtomicU64,
    stopping: AtomicBool,
    /// Processes with code to run: all but the host's mailboxes.
    guests: AtomicU32,
    /// Told when the last guest is gone while the system is shutting down.
    all_gone: (Mutex<()>, Condvar),
}

impl System {
    /// Starts a system: scheduler threads, an I/O runtime, and no process.
    pub fn new(config: Config) -> Result<System, Error> {
        config.check()?;
        let os =
            |what: &'static str| move |error: std::io::Error| Error::Os(format!("{what}: {error}"));
        let seam = Arc::new(Seam::real());
        let wasi = Wasi::new(config.grants.clone(), config.output.clone(), seam.clone())
            .map_err(Error::Grant)?;
        let engine = Engine::new(&config, Arc::new(wasi))
            .map_err(|error| Error::Os(format!("{error:#}")))?;
        let io = crate::wasi::io_runtime().map_err(os("the I/O threads can't be started"))?;

        let options = scheduler::Options {
            schedulers: config.schedulers,
            seam: seam.clone(),
        };
        // A pid's node is part of its secret: a pid of another system, or of an earlier one, leads nowhere.
        let node = seam.random_u64() >> (64 - crate::process::ID_BITS);
        let cipher = || Cipher::new(std::array::from_fn(|_| seam.random_u64()));
        let shared = Arc::new(Shared {
            table: Table::new(node, cipher(), config.max_processes),
            scheduler: Scheduler::new(options),
            counters: Tally::default(),
            programs: RwLock::default(),
            node,
            reference_cipher: cipher(),
            references: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            guests: AtomicU32::new(0),
            all_gone: Default::default(),
            config,
        });
        let handle = io.handle().clone();
        // Host calls find their runtime by the thread that they are polled on.
        let around = move |run: &mut dyn FnMut()| {
            let _entered = handle.enter();
            run();
        };
        let schedulers = shared
            .scheduler
            .start(shared.clone(), around)
            .map_err(os("the scheduler threads can't be started"))?;
        let threads = Mutex::new(Threads {
            schedulers,
            io: Some(io),
        });
        Ok(System(Arc::new(Owner {
            shared,
            engine,
            threads,
        })))
    }

    /// Compiles a program (a core module, a component, or the text of either) and registers it under a name, by
    /// which guests can spawn it too. Runs none of its code. A program that had the name before goes on running.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Program, LoadError> {
        let program = self.0.engine.load(name, bytes)?;
        let mut programs = self
            .0
            .shared
            .programs
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        programs.insert(name.to_owned(), program.clone());
        Ok(Program(program))
    }

    /// Starts a process. Its parent is the host.
    pub fn spawn(&self, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.0.shared.spawn(spawn)
    }

    /// Starts a process and watches it, so that its end is told however soon it comes. OTP: `spawn_monitor`.
    pub fn spawn_watched(&self, spawn: Spawn) -> Result<(Pid, Watch), SpawnError> {
        let (told, watch) = Watch::pair();
        let pid = self.0.shared.spawn_watched(spawn, vec![told])?;
        Ok((pid, watch))
    }

    /// Opens a mailbox of the host's own: a pid that guests can send to, and from which the host can send.
    pub fn open_mailbox(&self) -> Result<HostMailbox, SpawnError> {
        HostMailbox::open(self.0.shared.clone())
    }

    /// Does this process live?
    pub fn is_alive(&self, pid: Pid) -> bool {
        self.0.shared.is_alive(pid)
    }

    /// Tells how a process ends; [`ExitReason::NoProc`] if it has ended already.
    pub fn watch(&self, pid: Pid) -> Watch {
        Watch::new(&self.0.shared, pid)
    }

    /// Ends a process at once. OTP: `exit(Pid, kill)`.
    pub fn kill(&self, pid: Pid) {
        self.0.shared.end(pid, ExitReason::Killed);
    }

    /// What the system has done so far.
    pub fn counters(&self) -> Counters {
        let shared = &self.0.shared;
        Counters {
            processes: shared.table.live(),
            spawned: shared.counters.spawned.load(Ordering::Relaxed),
            crashed: shared.counters.crashed.load(Ordering::Relaxed),
            reductions: shared.counters.reductions.load(Ordering::Relaxed),
            schedulers: shared.scheduler.counters(),
        }
    }

    /// Ends every process, then the threads, and writes out what guests have printed. Returns when all that is done.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }
}

impl Program {
    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The functions that can be spawned, by name.
    pub fn functions(&self) -> Vec<String> {
        self.0.function_names()
    }
}

impl Owner {
    fn shutdown(&self) {
        let mut threads = lock(&self.threads);
        let Threads { schedulers, io } = std::mem::take(&mut *threads);
        if schedulers.is_empty() {
            return;
        }
        self.shared.end_all();
        self.shared.scheduler.stop();
        for thread in schedulers {
            if thread.join().is_err() {
                tracing::error!("a scheduler thread panicked");
            }
        }
        self.shared.drop_latecomers();
        self.shared.config.output.flush();
        if let Some(io) = io {
            // Blocking work that a dead process left behind (a read of a terminal, say) is not waited for.
            io.shutdown_background();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// Puts an event into a process's mailbox, if it lives. OTP: signals are never refused.
    #[inline]
    pub(crate) fn deliver(&self, to: Pid, event: Event) {
        let Some((index, entry, mut control)) = self.table.find(to) else {
            return;
        };
        let weight = event.weight_bytes();
        let nudge = if control.mailbox_bytes + weight <= control.mailbox_bytes_max {
            control.mailbox_bytes += weight;
            control.arrived.push_back(Some(event));
            entry.has_mail.store(true, Ordering::Release);
            control.mail()
        } else {
            match control.phase {
                // The host is trusted not to die of a flood; what it has no room for is lost to it.
                Phase::Host => Nudge::Nothing,
                _ => control.end_with(ExitReason::Exhausted(Budget::Mailbox)),
            }
        };
        drop(control);
        self.carry_out(index, nudge);
    }

    /// Ends a process before it runs again.
    pub(crate) fn end(&self, pid: Pid, reason: ExitReason) {
        if let Some((index, _, mut control)) = self.table.find(pid) {
            let nudge = control.end_with(reason);
            drop(control);
            self.carry_out(index, nudge);
        }
    }

    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.table
            .find(pid)
            .is_some_and(|(_, _, control)| control.ending.is_none())
    }

    pub(crate) fn program(&self, name: &str) -> Option<Arc<dyn Runnable>> {
        let programs = self
            .programs
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        programs.get(name).cloned()
    }

    pub(crate) fn make_reference(&self) -> Reference {
        let raw =
            self.references.fetch_add(1, Ordering::Relaxed) & ((1 << crate::process::ID_BITS) - 1);
        Reference {
            node: self.node,
            id: self.reference_cipher.encipher(raw),
        }
    }

    fn send_from(&self, sender: Pid, to: Pid, message: Outgoing) {
        self.deliver(to, Event::Message(message.from(sender)));
    }

    #[inline]
    fn carry_out(&self, index: u32, nudge: Nudge) {
        match nudge {
            Nudge::Nothing => {}
            Nudge::Schedule => self.scheduler.schedule(index),
            Nudge::Wake(waker) => waker.wake(),
        }
    }

    /// Ends every guest process and waits until none is left.
    fn end_all(&self) {
        self.stopping.store(true, Ordering::Release);
        for (index, entry) in self.table.entries() {
            let mut control = entry.control();
            if matches!(control.phase, Phase::Absent | Phase::Host) {
                continue;
            }
            let nudge = control.end_with(ExitReason::Killed);
            drop(control);
            self.carry_out(index, nudge);
        }
        let (gone, told) = &self.all_gone;
        let mut guard = lock(gone);
        while self.guests.load(Ordering::Acquire) > 0 {
            guard = told
                .wait(guard)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Drops what a spawn from outside may have put into the table after everybody was told to end. Nobody will run
    /// it, and it holds this very structure.
    fn drop_latecomers(&self) {
        for (_, entry) in self.table.entries() {
            let body = entry.control().body.take();
            drop(body);
        }
    }
}

impl crate::wasi::Seam for Seam {
    fn now(&self) -> u64 {
        self.now()
    }

    fn wall(&self) -> std::time::Duration {
        self.wall()
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.fill_random(buffer);
    }
}
