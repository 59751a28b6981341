//! A system: programs, the process table, signals, limits, start and end.
//!
//! This room knows what happens to processes. It never sees wasmtime's types (a program is a [`program::Runnable`],
//! an execution a [`program::Body`]) and never a thread (the scheduler calls [`Work::run`] for one turn).
//!
//! | file | holds |
//! |---|---|
//! | here | the system from outside, and the delivery of events |
//! | `table`, `control` | where a pid leads, and what others may touch of a process |
//! | `current`, `handover` | a process seen from inside its turn |
//! | `turn` | one turn |
//! | `hibernation` | who has waited long enough to be packed |
//! | `spawn`, `farewell` | beginning and end |
//! | `signals`, `calls`, `timers`, `names`, `groups` | what ties processes to each other |
//! | `inspect`, `report` | what is told of processes |
//! | `stop` | the end of the whole system |
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
//!   return, trap, exit ──► end of run: finish: drop all, tell the linked, then those who monitor
//! ```

pub(crate) mod calls;
pub(crate) mod control;
pub(crate) mod current;
pub(crate) mod groups;
pub(crate) mod handover;
pub(crate) mod program;
pub(crate) mod spawn;
pub(crate) mod timers;

mod config;
mod farewell;
mod hibernation;
mod inspect;
mod mailbox;
pub(crate) mod memory;
mod names;
mod report;
mod signals;
mod stop;
mod table;
mod turn;
mod watch;

pub use config::{Config, CrashHook, Error};
pub use inspect::{Holdings, ProcessInfo, Status};
pub use mailbox::HostMailbox;
pub use names::RegisterError;
pub use report::{Counters, CrashReport, Hibernation};
pub use spawn::{Spawn, SpawnError};
pub use watch::Watch;

use crate::engine::{Engine, LoadError};
use crate::process::{Cipher, Event, ExitReason, Outgoing, Pid, Reference};
use crate::scheduler::{self, Scheduler, Seam};
use crate::wasi::Wasi;
use control::Nudge;
use groups::Groups;
use hibernation::Hibernator;
use names::Names;
use program::Runnable;
use report::Tally;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use stop::Departures;
use table::{Table, lock, lock_write};

/// How often, and how far apart, [`System::info`] looks whether a process has said where it is.
const ANSWER_LOOKS: u32 = 50;
const ANSWER_LOOKS_APART: Duration = Duration::from_micros(200);

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

/// Threads that a system, compiling and its program start beside the schedulers, or nearly.
const THREADS_BESIDE_SCHEDULERS: usize = 12;

#[derive(Default)]
struct Threads {
    schedulers: Vec<JoinHandle<()>>,
    io: Option<tokio::runtime::Runtime>,
    hibernator: Option<Hibernator>,
}

/// What all processes of a system share.
pub(crate) struct Shared {
    this: Weak<Shared>,
    pub(crate) table: Table,
    pub(crate) scheduler: Arc<Scheduler<Shared>>,
    pub(crate) config: Config,
    counters: Tally,
    programs: RwLock<HashMap<String, Arc<dyn Runnable>>>,
    names: Names,
    groups: Groups,
    pub(crate) memory: Arc<memory::Pool>,
    node: u64,
    reference_cipher: Cipher,
    references: AtomicU64,
    stopping: AtomicBool,
    /// Processes with code to run: all but the host's mailboxes.
    guests: AtomicU32,
    /// Tells who waits for processes to end.
    departures: Departures,
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
        crate::wasi::check_threads(config.schedulers + THREADS_BESIDE_SCHEDULERS)
            .map_err(os("there are too few threads (`ulimit -u`, `ulimit -v`)"))?;
        let io = crate::wasi::io_runtime().map_err(os("the I/O threads can't be started"))?;

        let options = scheduler::Options {
            schedulers: config.schedulers,
            seam: seam.clone(),
        };
        // A pid's node is part of its secret: a pid of another system, or of an earlier one, leads nowhere.
        let node = seam.random_u64() >> (64 - crate::process::ID_BITS);
        let cipher = || Cipher::new(std::array::from_fn(|_| seam.random_u64()));
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            table: Table::new(node, cipher(), config.max_processes),
            scheduler: Scheduler::new(options),
            counters: Tally::default(),
            programs: RwLock::default(),
            names: Names::default(),
            groups: Groups::default(),
            memory: memory::Pool::new(config.max_total_memory),
            node,
            reference_cipher: cipher(),
            references: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            guests: AtomicU32::new(0),
            departures: Departures::default(),
            config,
        });
        let handle = io.handle().clone();
        // Host calls find their runtime by the thread that they are polled on.
        let around = move |run: &mut dyn FnMut()| {
            let _entered = handle.enter();
            run();
            handover::leave();
        };
        let schedulers = shared
            .scheduler
            .start(shared.clone(), around)
            .map_err(os("the scheduler threads can't be started"))?;
        let hibernator = Hibernator::start(&shared)
            .map_err(os("the thread that hibernates processes can't be started"))?;
        let threads = Mutex::new(Threads {
            schedulers,
            io: Some(io),
            hibernator,
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
        lock_write(&self.0.shared.programs).insert(name.to_owned(), program.clone());
        Ok(Program(program))
    }

    /// Starts a process. Its parent is the host.
    pub fn spawn(&self, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.0.shared.spawn(spawn, None)
    }

    /// Starts a process and watches it, so that its end is told however soon it comes. OTP: `spawn_monitor`.
    pub fn spawn_watched(&self, spawn: Spawn) -> Result<(Pid, Watch), SpawnError> {
        let (told, watch) = Watch::pair();
        let pid = self.0.shared.spawn_watched(spawn, None, Some(told))?;
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
        self.exit_process(pid, ExitReason::Kill);
    }

    /// Sends an exit signal in the name of the process itself. One that traps exits receives it as an event; `kill`
    /// can't be trapped. OTP: `exit/2`.
    pub fn exit_process(&self, pid: Pid, reason: ExitReason) {
        self.0.shared.send_exit(pid, pid, reason);
    }

    /// Gives a process a name. OTP: `register/2`.
    pub fn register(&self, name: &str, pid: Pid) -> Result<(), RegisterError> {
        self.0.shared.register(name, pid)
    }

    /// Who has this name. OTP: `whereis/1`.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        self.0.shared.whereis(name)
    }

    /// Every process that is alive. OTP: `processes/0`.
    pub fn processes(&self) -> Vec<Pid> {
        self.0.shared.processes()
    }

    /// What a process is and does. Blocks for some milliseconds at most, in which a process that waits says which function
    /// it is in. OTP: `process_info/1`.
    pub fn info(&self, pid: Pid) -> Option<ProcessInfo> {
        let shared = &self.0.shared;
        shared.ask_where(pid);
        for _ in 0..ANSWER_LOOKS {
            if !shared.is_about_to_say(pid) {
                break;
            }
            std::thread::sleep(ANSWER_LOOKS_APART);
        }
        shared.info(pid)
    }

    /// Each guest process's reductions so far, in no particular order: cheaper than asking for everything of each.
    pub fn reductions(&self) -> Vec<(Pid, u64)> {
        self.0.shared.reductions()
    }

    /// What the system has done so far.
    pub fn counters(&self) -> Counters {
        Counters {
            recycled: self.0.engine.instances_used_again(),
            hibernation: self.0.engine.hibernation(),
            ..self.0.shared.counters()
        }
    }

    #[cfg(test)]
    pub(crate) fn slots(&self) -> std::sync::Weak<crate::engine::Slots> {
        self.0.engine.slots()
    }

    /// What the system holds for its processes now; nothing, when no process is left.
    pub fn holdings(&self) -> Holdings {
        let mut holdings = self.0.shared.holdings();
        holdings.slots = self.0.engine.slots_in_use();
        holdings.contexts = self.0.engine.contexts_open();
        holdings
    }

    /// Ends the processes in order: those that nobody above them would end are sent the exit signal `shutdown`, whoever
    /// is left without a parent by that is sent one, too, and so on. Returns when all have ended, or the grace time is
    /// over: true if all have. Call [`System::shutdown`] then. OTP: `init:stop/0`.
    ///
    /// "Nobody above them": their parent is the host, or has ended. The signal comes in the name of the parent, or of the
    /// process itself if the host is the parent.
    pub fn stop(&self, grace: Duration) -> bool {
        self.0.shared.stop_in_order(grace)
    }

    /// Ends every process, then the threads, and writes out what guests have printed. Returns when all that is done, and
    /// says how many processes it killed: those that were about to end anyway are not among them. After the first time
    /// it does nothing.
    pub fn shutdown(&self) -> usize {
        self.0.shutdown()
    }

    /// The same, but what guests have printed may not be written yet: the destinations may take as long as they like, and
    /// [`Output::flush`](crate::Output::flush) waits for them. OTP: `halt/2` without `flush`.
    pub fn halt(&self) -> usize {
        self.0.halt().unwrap_or(0)
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
    fn shutdown(&self) -> usize {
        let Some(killed) = self.halt() else {
            return 0;
        };
        self.shared.config.output.flush();
        killed
    }

    /// None if that was done before.
    fn halt(&self) -> Option<usize> {
        let mut threads = lock(&self.threads);
        let Threads {
            schedulers,
            io,
            hibernator,
        } = std::mem::take(&mut *threads);
        if schedulers.is_empty() {
            return None;
        }
        drop(hibernator);
        let killed = self.shared.kill_all();
        self.shared.scheduler.stop();
        for thread in schedulers {
            if thread.join().is_err() {
                tracing::error!("a scheduler thread panicked");
            }
        }
        self.shared.drop_latecomers();
        if let Some(io) = io {
            // Blocking work that a dead process left behind (a read of a terminal, say) is not waited for.
            io.shutdown_background();
        }
        Some(killed)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// Puts an event into a process's mailbox, if it lives. OTP: signals are never refused.
    #[inline(always)]
    pub(crate) fn deliver(&self, to: Pid, event: Event) {
        if let Some(index) = self.table.index(to) {
            self.deliver_at(index, to, event.weight_bytes(), || event);
        }
    }

    /// The same, where the caller knows the index of its entry and what the event weighs, and makes it where it will lie.
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
        let nudge = control.receive_new(entry, weight, event);
        drop(control);
        self.carry_out(index, nudge);
    }

    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.table.find(pid).is_some()
    }

    pub(crate) fn program(&self, name: &str) -> Option<Arc<dyn Runnable>> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
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
            Nudge::Schedule(priority) => self.scheduler.schedule(index, priority),
            Nudge::Wake(waker) => waker.wake(),
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
