//! The runtime: the types that an embedding program holds, which own everything else.
//!
//! This room owns the threads (schedulers, I/O, hibernator), the engine with its programs, and the system of
//! processes. It connects the other rooms, and none of them sees it.
//!
//! | file | holds |
//! |---|---|
//! | here | [`System`]: starting, loading, spawning, ending |
//! | `hibernator` | the thread that hibernates idle processes |
//! | `stop` | waiting for the end of processes |
//! | `mailbox`, `watch` | the host among the processes: its mailboxes, and its watches of processes' ends |
//! | `inspect` | descriptions of files |
//! | `harness` | a system for tests of wasm itself |

pub(crate) mod harness;

mod hibernator;
mod inspect;
mod mailbox;
mod stop;
mod watch;

pub use inspect::{Import, ImportStatus, Inspection, Path};
pub use mailbox::HostMailbox;
pub use watch::Watch;

use crate::contract;
use crate::engine::{self, Engine, cache_folder};
use crate::process::{ExitReason, Pid};
use crate::rewriter::LoadError;
use crate::scheduler::Seam;
use crate::system::locks::lock;
use crate::system::{
    Config, Counters, Error, Holdings, ProcessInfo, Program, RegisterError, Rights, Shared, Spawn,
    SpawnError, Tree, TreeInfo, TreeOptions, turn_context, waker,
};
use crate::wasi::Wasi;
use hibernator::Hibernator;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use stop::ShutdownWaiter;

/// The number of looks, and the pause between them, with which [`System::info`] waits for a process to say which
/// function it is in.
const ANSWER_LOOKS: u32 = 50;
const ANSWER_LOOKS_APART: Duration = Duration::from_micros(200);

/// A running system of processes. Clones are handles to the same one.
///
/// It ends when [`System::shutdown`] is called; dropping the last handle does the same.
#[derive(Clone)]
pub struct System(Arc<Owner>);

/// Owns the threads, which end with the last handle. Processes hold `shared`, too, but not this.
struct Owner {
    shared: Arc<Shared>,
    engine: Engine,
    shutdown_waiter: Arc<ShutdownWaiter>,
    threads: Mutex<Threads>,
}

/// About as many threads as the system, a compilation and the embedding program start beside the schedulers.
const THREADS_BESIDE_SCHEDULERS: usize = 12;

#[derive(Default)]
struct Threads {
    schedulers: Vec<JoinHandle<()>>,
    io: Option<tokio::runtime::Runtime>,
    hibernator: Option<Hibernator>,
}

impl System {
    /// Starts a system: scheduler threads and an I/O runtime, without any process.
    pub fn new(config: Config) -> Result<System, Error> {
        config.check()?;
        let os =
            |what: &'static str| move |error: std::io::Error| Error::Os(format!("{what}: {error}"));
        let seam = Arc::new(Seam::real());
        let kept = cache_folder().into_iter().chain(["/proc".into()]);
        let kept: Vec<_> = kept.collect();
        config.grants.check_apart(&kept).map_err(Error::Grant)?;
        let guest_seam = Arc::new(GuestSeam {
            seam: seam.clone(),
            step_ns: config.clock_step_ns(),
        });
        let wasi = Wasi::new(config.grants.clone(), config.output.clone(), guest_seam)
            .map_err(Error::Grant)?;
        let engine = Engine::new(&config, &seam, Arc::new(wasi), contract::LINKERS)
            .map_err(|error| Error::Os(format!("{error:#}")))?;
        crate::wasi::check_threads(config.schedulers + THREADS_BESIDE_SCHEDULERS)
            .map_err(os("there are too few threads (`ulimit -u`, `ulimit -v`)"))?;
        let io = crate::wasi::io_runtime().map_err(os("the I/O threads can't be started"))?;
        let shutdown_waiter = Arc::new(ShutdownWaiter::new(&seam));
        let shared = Shared::new(config, &seam, shutdown_waiter.clone());
        let handle = io.handle().clone();
        // A host call finds its I/O runtime by the thread on which it is polled.
        let around = move |run: &mut dyn FnMut()| {
            let _entered = handle.enter();
            engine::prepare_thread();
            run();
            turn_context::free();
            waker::free();
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
            shutdown_waiter,
            threads,
        })))
    }

    /// Compiles a program (a core module, a component, or the text of either) and registers it under a name. Guests
    /// can spawn it by that name, too. Runs none of its code. Processes of a program that had the name before go on
    /// running.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Program, LoadError> {
        self.load_program(name, bytes, None)
    }

    /// Does the same for a program that is not trusted with everything. If it imports an interface whose right these
    /// options withhold, it is refused, and nothing of it is compiled. Each of its processes that the host or a process
    /// of another program spawns begins a tree with these options.
    pub fn load_within(
        &self,
        name: &str,
        bytes: &[u8],
        options: TreeOptions,
    ) -> Result<Program, LoadError> {
        self.load_program(name, bytes, Some(options))
    }

    fn load_program(
        &self,
        name: &str,
        bytes: &[u8],
        options: Option<TreeOptions>,
    ) -> Result<Program, LoadError> {
        let shared = &self.0.shared;
        let withheld = options
            .as_ref()
            .map_or(Rights::empty(), |options| options.without);
        let rights = shared.domain.capabilities.rights - withheld;
        let program = Program {
            runnable: self.0.engine.load(name, bytes, rights)?,
            options: options.map(Arc::new),
        };
        shared.add_program(name, program.clone());
        Ok(program)
    }

    /// Starts a process. Its parent is the host.
    pub fn spawn(&self, spawn: Spawn) -> Result<Pid, SpawnError> {
        self.0.shared.spawn(spawn, None)
    }

    /// Starts a process and watches it: the watch learns of the end even if it comes at once. OTP: `spawn_monitor`.
    pub fn spawn_watched(&self, spawn: Spawn) -> Result<(Pid, Watch), SpawnError> {
        let (told, watch) = Watch::pair();
        let (pid, _) = self.0.shared.spawn_watched(spawn, None, Some(told))?;
        Ok((pid, watch))
    }

    /// Starts a process as the root of a tree, watches it, and holds the tree, so that the host can tell what the tree has
    /// used and can end it.
    pub fn spawn_tree(&self, spawn: Spawn) -> Result<(Pid, Tree, Watch), SpawnError> {
        let (told, watch) = Watch::pair();
        let shared = &self.0.shared;
        let (pid, domain) = shared.spawn_watched(spawn.tree(), None, Some(told))?;
        let domain = domain.ok_or_else(|| SpawnError::Other("it has no tree".into()))?;
        Ok((pid, Tree::new(shared.clone(), domain), watch))
    }

    /// Opens a mailbox of the host: a pid to which guests can send, and from which the host can send.
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

    /// Kills a process that began a tree, and every process of the tree, also if the one that began it has ended. Returns
    /// false if there is no such tree: see [`Spawn::tree`].
    pub fn kill_tree(&self, root: Pid) -> bool {
        self.0.shared.kill_tree(root)
    }

    /// The budgets of all trees that have processes, and what they have used, in no particular order.
    pub fn trees(&self) -> Vec<TreeInfo> {
        self.0.shared.trees()
    }

    /// Sends an exit signal with the process itself as the sender. A process that traps exits receives it as an
    /// event; `kill` can't be trapped. OTP: `exit/2`.
    pub fn exit_process(&self, pid: Pid, reason: ExitReason) {
        self.0.shared.send_exit(pid, pid, reason);
    }

    /// Gives a process a name. OTP: `register/2`.
    pub fn register(&self, name: &str, pid: Pid) -> Result<(), RegisterError> {
        let shared = &self.0.shared;
        shared.register(&shared.domain, name, pid)
    }

    /// Returns the process that has this name. OTP: `whereis/1`.
    pub fn whereis(&self, name: &str) -> Option<Pid> {
        let shared = &self.0.shared;
        shared.whereis(&shared.domain, name)
    }

    /// Every process that is alive. OTP: `processes/0`.
    pub fn processes(&self) -> Vec<Pid> {
        self.0.shared.processes()
    }

    /// Describes a process and its state. Blocks for some milliseconds at most, while a waiting process says which
    /// function it is in. OTP: `process_info/1`.
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

    /// Each guest process's reductions so far, in no particular order. Cheaper than [`System::info`] of each process.
    pub fn reductions(&self) -> Vec<(Pid, u64)> {
        self.0.shared.reductions()
    }

    /// Counts the system's work so far.
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

    /// Counts the resources that the system holds for its processes now: none, when no process is left.
    pub fn holdings(&self) -> Holdings {
        let mut holdings = self.0.shared.holdings();
        holdings.slots = self.0.engine.slots_in_use();
        holdings.contexts = self.0.engine.contexts_open();
        holdings
    }

    /// Ends the processes in order. The exit signal `shutdown` is sent to every process without a living parent, then
    /// to the processes that are left without a parent by that, and so on. Returns when all processes have ended, or
    /// when the grace time is over: true if all have ended. Call [`System::shutdown`] afterwards. OTP: `init:stop/0`.
    ///
    /// A process has no living parent if the host spawned it or if its parent has ended. The signal's sender is the
    /// parent, or the process itself if the host spawned it.
    pub fn stop(&self, grace: Duration) -> bool {
        self.0.shutdown_waiter.stop_in_order(&self.0.shared, grace)
    }

    /// Ends every process, then the threads, and writes out the guests' output. Returns when all this is done. The
    /// result is the number of processes that it killed, without those that were about to end anyway. Later calls do
    /// nothing.
    pub fn shutdown(&self) -> usize {
        self.0.shutdown()
    }

    /// Like [`System::shutdown`], but without waiting until the guests' output is written: its destinations may take
    /// any time, and [`Output::flush`](crate::Output::flush) waits for them. OTP: `halt/2` without `flush`.
    pub fn halt(&self) -> usize {
        self.0.halt().unwrap_or(0)
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

    /// Returns none if the system was halted before.
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
        let killed = self.shutdown_waiter.kill_all(&self.shared);
        self.shared.scheduler.stop();
        for thread in schedulers {
            if thread.join().is_err() {
                tracing::error!("a scheduler thread panicked");
            }
        }
        self.shared.drop_latecomers();
        if let Some(io) = io {
            // Don't wait for blocking work of dead processes, such as a read of a terminal.
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

/// The seam as guests see it: with clocks that may be coarse.
struct GuestSeam {
    seam: Arc<Seam>,
    step_ns: u64,
}

impl crate::wasi::Seam for GuestSeam {
    fn resolution_ns(&self) -> u64 {
        self.step_ns
    }

    fn now(&self) -> u64 {
        let now_ns = self.seam.now();
        now_ns - now_ns % self.step_ns
    }

    fn wall(&self) -> Duration {
        let wall = self.seam.wall();
        let over = wall.as_nanos() % u128::from(self.step_ns);
        wall - Duration::from_nanos(u64::try_from(over).unwrap_or(0))
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.seam.fill_random(buffer);
    }
}
