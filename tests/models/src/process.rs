//! The life of a process: mail, turns, suspensions, hibernation and its end. This is a model and not the code.
//!
//! Each method of [`Process`] takes the steps of the function of the host that it names, with the same reads and writes under
//! the same lock. Everything that plays no part is left out: payloads, ties, timers, priorities. The run queue is a number,
//! from which the main thread gives the turns.
//!
//! In each model other threads act on the process while it gets turns. When they are done, it gets all turns that it is
//! scheduled for. Then nothing may be left: no mail that it has not received, no call that it has not noticed, no exit that has
//! not happened. It must never be in the run queue twice, and its body must never be in two hands.

use crate::flaws::{Flaw, Model, has};
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

pub const MODELS: &[Model] = &[
    Model {
        name: "a waiting process receives all mail",
        run: || act(Guest::Receives, &[Act::Send, Act::Send]),
        preemptions_max: None,
        notices: &[Flaw::Inbox],
    },
    Model {
        name: "mail arrives while a process is hibernated",
        run: || act(Guest::Receives, &[Act::Hibernate, Act::Send]),
        preemptions_max: None,
        notices: &[Flaw::Inbox, Flaw::Hibernator],
    },
    Model {
        name: "mail arrives while a process is suspended and resumed",
        run: || act(Guest::Receives, &[Act::Suspend, Act::Send]),
        preemptions_max: None,
        notices: &[Flaw::Inbox, Flaw::HeldBack],
    },
    Model {
        name: "a process is killed while mail arrives",
        run: || act(Guest::Receives, &[Act::Kill, Act::Send]),
        preemptions_max: None,
        notices: &[Flaw::Wake, Flaw::PendingExit],
    },
    Model {
        name: "a process is killed while it is hibernated",
        run: || act(Guest::Receives, &[Act::Kill, Act::Hibernate]),
        preemptions_max: None,
        notices: &[Flaw::Wake, Flaw::PendingExit, Flaw::Hibernator],
    },
    Model {
        name: "a suspended process is killed",
        run: || act(Guest::Receives, &[Act::Kill, Act::Suspend]),
        preemptions_max: None,
        notices: &[Flaw::Wake, Flaw::PendingExit],
    },
    Model {
        name: "a host call is complete while its process goes to wait",
        run: || act(Guest::CallsHost, &[Act::Complete]),
        preemptions_max: None,
        notices: &[Flaw::Woken],
    },
    Model {
        name: "a process is killed in a host call that completes",
        run: || act(Guest::CallsHost, &[Act::Complete, Act::Kill]),
        preemptions_max: None,
        notices: &[Flaw::Wake, Flaw::PendingExit],
    },
    Model {
        name: "a killed process begins no call",
        run: || act(Guest::Computes, &[Act::Kill]),
        preemptions_max: None,
        notices: &[Flaw::Doom],
    },
    Model {
        name: "a process is spawned while all are killed",
        run: a_process_is_spawned_while_all_are_killed,
        preemptions_max: None,
        notices: &[Flaw::Stopping],
    },
];

/// The program of the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guest {
    /// Receives for ever.
    Receives,
    /// Makes one call that waits in the host, and then receives for ever.
    CallsHost,
    /// Uses up its slices and makes calls that do not wait; after so many turns it receives for ever.
    Computes,
}

const COMPUTING_TURNS: u32 = 2;

/// Another thread's action.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    Kill,
    Hibernate,
    Suspend,
    /// Completes the host call.
    Complete,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Absent,
    Waiting,
    Scheduled,
    Running,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Host,
    Mail,
}

/// `Control` (`system/control.rs`).
struct Control {
    phase: Phase,
    awaits: Awaits,
    woken: bool,
    pending_exit: bool,
    suspensions: u32,
    is_held_back: bool,
    /// The number of messages in the inbox.
    arrived: u32,
    body: Option<Body>,
}

/// The execution: whoever has it may run it.
#[derive(Default)]
struct Body {
    received: u32,
    turns: u32,
}

/// `Entry`, and what stands for the rest of the system.
struct Process {
    guest: Guest,
    control: Mutex<Control>,
    has_mail: AtomicBool,
    is_doomed: AtomicBool,
    /// How often it is in the run queue.
    queued: AtomicU32,
    /// The host call is complete.
    is_complete: AtomicBool,
    /// `send_exit` has returned on another thread.
    is_told: AtomicBool,
}

/// The actions of other threads beside the turns of a new process, and the claims about the end.
fn act(guest: Guest, acts: &[Act]) {
    let process = Arc::new(Process::new(guest));
    let threads: Vec<_> = acts
        .iter()
        .map(|act| {
            let (act, process) = (*act, process.clone());
            thread::spawn(move || process.suffer(act))
        })
        .collect();
    process.give_turns();
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    process.give_turns();
    let sent = acts.iter().filter(|act| **act == Act::Send).count();
    let control = process.lock();
    match acts.contains(&Act::Kill) {
        true => assert_eq!(control.phase, Phase::Absent),
        false => {
            assert_eq!(control.phase, Phase::Waiting);
            assert!(control.awaits == Awaits::Mail && control.arrived == 0);
            let body = control.body.as_ref().expect("nobody has it");
            assert_eq!(body.received as usize, sent);
        }
    }
}

impl Process {
    /// A process that has been spawned: it is in the run queue.
    fn new(guest: Guest) -> Process {
        let control = Control {
            phase: Phase::Scheduled,
            awaits: Awaits::Host,
            woken: false,
            pending_exit: false,
            suspensions: 0,
            is_held_back: false,
            arrived: 0,
            body: Some(Body::default()),
        };
        Process {
            guest,
            control: Mutex::new(control),
            has_mail: AtomicBool::new(false),
            is_doomed: AtomicBool::new(false),
            queued: AtomicU32::new(1),
            is_complete: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().expect("no thread panics")
    }

    fn suffer(&self, act: Act) {
        match act {
            Act::Send => self.deliver(),
            Act::Hibernate => self.hibernate_if_idle(),
            Act::Suspend => {
                self.lock().suspensions += 1;
                self.resume();
            }
            Act::Kill => {
                self.send_exit();
                self.is_told.store(true, Ordering::Release);
            }
            Act::Complete => {
                self.is_complete.store(true, Ordering::Release);
                self.wake();
            }
        }
    }

    /// `Shared::deliver_at`, and `Control::receive_new`.
    fn deliver(&self) {
        let mut control = self.lock();
        if control.phase == Phase::Absent || control.pending_exit {
            return;
        }
        control.arrived += 1;
        self.has_mail.store(true, Ordering::Release);
        let is_scheduled = control.mail();
        drop(control);
        self.carry_out(is_scheduled);
    }

    /// `Shared::send_exit`, and `Control::end_with`.
    fn send_exit(&self) {
        let mut control = self.lock();
        if control.phase == Phase::Absent {
            return;
        }
        if !control.pending_exit {
            control.pending_exit = true;
            if !has(Flaw::Doom) {
                self.is_doomed.store(true, Ordering::Release);
            }
        }
        let is_scheduled = control.end_again();
        drop(control);
        self.carry_out(is_scheduled);
    }

    /// `HostCallWaker::wake_by_ref`, and `Control::wake`.
    fn wake(&self) {
        let mut control = self.lock();
        let mut is_scheduled = false;
        if control.phase == Phase::Waiting && control.awaits == Awaits::Host {
            is_scheduled = control.schedule();
        } else {
            control.woken = true;
        }
        drop(control);
        self.carry_out(is_scheduled);
    }

    /// `Shared::resume`, and `Control::let_go`.
    fn resume(&self) {
        let mut control = self.lock();
        control.suspensions -= 1;
        let is_held_back = std::mem::take(&mut control.is_held_back);
        let is_scheduled = is_held_back && control.phase == Phase::Waiting && control.schedule();
        drop(control);
        self.carry_out(is_scheduled);
    }

    /// `Shared::hibernate_if_idle`, with little memory left.
    fn hibernate_if_idle(&self) {
        let mut control = self.lock();
        let is_idle = control.phase == Phase::Waiting && control.waits_for_mail();
        let Some(body) = control.body.take_if(|_| is_idle) else {
            return;
        };
        control.phase = Phase::Running;
        drop(control);
        // The body is packed here, without the lock.
        let mut control = self.lock();
        assert!(control.body.replace(body).is_none(), "two bodies");
        control.phase = Phase::Waiting;
        if control.waits_for_mail() || has(Flaw::Hibernator) {
            return;
        }
        let is_scheduled = match control.pending_exit {
            true => control.end_again(),
            false => control.mail(),
        };
        drop(control);
        self.carry_out(is_scheduled);
    }

    /// `Shared::carry_out`: the lock has been released.
    fn carry_out(&self, is_scheduled: bool) {
        if is_scheduled {
            let before = self.queued.fetch_add(1, Ordering::AcqRel);
            assert_eq!(before, 0, "it is in the run queue twice");
        }
    }

    /// A scheduler, until the run queue is empty.
    fn give_turns(&self) {
        let less = |queued: u32| queued.checked_sub(1);
        let is_queued = || {
            let update = self
                .queued
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
            update.is_ok()
        };
        while is_queued() {
            self.run();
        }
    }

    /// `Work::run` (`system/turn.rs`).
    fn run(&self) {
        let mut control = self.lock();
        assert_eq!(control.phase, Phase::Scheduled);
        if control.suspensions > 0 && !control.pending_exit {
            control.phase = Phase::Waiting;
            control.is_held_back = true;
            return;
        }
        let mut body = control.body.take().expect("nobody has the body");
        if control.pending_exit {
            drop(control);
            // `end_as_told` lets the execution unwind here.
            return self.finish();
        }
        // `begin_turn`.
        control.phase = Phase::Running;
        control.woken = false;
        let mut mail = std::mem::take(&mut control.arrived);
        self.has_mail.store(false, Ordering::Relaxed);
        drop(control);
        match self.poll(&mut body, &mut mail) {
            Some(awaits) => self.end_turn(body, awaits, mail),
            None => self.finish(),
        }
    }

    /// The guest's code. Returns what it waits for; none if it has noticed that it was told to end.
    fn poll(&self, body: &mut Body, mail: &mut u32) -> Option<Awaits> {
        body.turns += 1;
        match self.guest {
            Guest::CallsHost if !self.is_complete.load(Ordering::Acquire) => {
                return Some(Awaits::Host);
            }
            Guest::Computes if body.turns <= COMPUTING_TURNS => {
                // The guard in front of each call. A call that begins after `send_exit` has returned must be refused.
                let is_told = self.is_told.load(Ordering::Acquire);
                if self.is_doomed.load(Ordering::Acquire) {
                    return None;
                }
                assert!(!is_told, "a process that was told to end makes a call");
                return Some(Awaits::Host);
            }
            _ => {}
        }
        // `Current::search` and `fetch_mail`: until no mail is left.
        loop {
            body.received += std::mem::take(mail);
            if !self.has_mail.load(Ordering::Acquire) {
                return Some(Awaits::Mail);
            }
            body.received += std::mem::take(&mut self.lock().arrived);
            self.has_mail.store(false, Ordering::Relaxed);
        }
    }

    /// `Shared::end_turn`, and `is_runnable`.
    fn end_turn(&self, body: Body, awaits: Awaits, unasked: u32) {
        let mut control = self.lock();
        control.arrived += unasked;
        control.awaits = awaits;
        assert!(control.body.replace(body).is_none(), "two bodies");
        let has_host_calls = self.guest == Guest::CallsHost;
        let is_told = control.pending_exit && !has(Flaw::PendingExit);
        let is_runnable = match awaits {
            Awaits::Mail => is_told || control.arrived > 0 && !has(Flaw::Inbox),
            Awaits::Host => is_told || !has_host_calls || control.woken && !has(Flaw::Woken),
        };
        control.phase = match is_runnable {
            true => Phase::Scheduled,
            false => Phase::Waiting,
        };
        drop(control);
        // The scheduler puts the task back only when `run` has returned `After::Again`.
        self.carry_out(is_runnable);
    }

    /// `Shared::finish`, to the release of the entry.
    fn finish(&self) {
        let mut control = self.lock();
        assert!(control.phase != Phase::Absent && control.pending_exit);
        control.phase = Phase::Absent;
        control.pending_exit = false;
        control.arrived = 0;
    }
}

impl Control {
    /// Returns whether the caller must put the process into the run queue, as the others do.
    fn mail(&mut self) -> bool {
        self.phase == Phase::Waiting && self.awaits == Awaits::Mail && self.schedule()
    }

    fn end_again(&mut self) -> bool {
        let is_waiting = self.phase == Phase::Waiting && !has(Flaw::Wake);
        if is_waiting {
            self.phase = Phase::Scheduled;
        }
        is_waiting
    }

    fn schedule(&mut self) -> bool {
        if self.suspensions > 0 {
            self.is_held_back = !has(Flaw::HeldBack);
            return false;
        }
        self.phase = Phase::Scheduled;
        true
    }

    fn waits_for_mail(&self) -> bool {
        self.awaits == Awaits::Mail && self.arrived == 0 && !self.pending_exit
    }
}

/// `Table::reserve` and `Shared::fill` (`system/spawn.rs`) beside `Shared::end_all` (`system/stop.rs`), for the first process in
/// an entry: the one thread does not see the entry, or the other one sees that the system stops.
fn a_process_is_spawned_while_all_are_killed() {
    struct System {
        stopping: AtomicBool,
        /// The number of entries that were ever in use, under the lock of the pool.
        used: Mutex<u32>,
        /// The phase and the pending exit of the first entry.
        control: Mutex<(Phase, bool)>,
    }
    let system = Arc::new(System {
        stopping: AtomicBool::new(false),
        used: Mutex::new(0),
        control: Mutex::new((Phase::Absent, false)),
    });
    let spawner = thread::spawn({
        let system = system.clone();
        move || {
            *system.used.lock().expect("no thread panics") += 1;
            let mut control = system.control.lock().expect("no thread panics");
            control.0 = Phase::Scheduled;
            if system.stopping.load(Ordering::Acquire) && !has(Flaw::Stopping) {
                control.1 = true;
            }
        }
    });
    system.stopping.store(true, Ordering::Release);
    let used = *system.used.lock().expect("no thread panics");
    if used > 0 {
        let mut control = system.control.lock().expect("no thread panics");
        control.1 |= control.0 != Phase::Absent;
    }
    spawner.join().expect("no thread panics");
    let control = system.control.lock().expect("no thread panics");
    assert!(control.1, "a process was left alive");
}
