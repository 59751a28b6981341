//! The entry of a process: the part that others may touch under its lock, its [`Control`], and the flags that they may
//! read without it.
//!
//! Every function here takes a few instructions and calls nothing outside of this file. If the caller has something to
//! do once it has released the lock, the function returns it as a [`WakeAction`].

use super::alarm::Timer;
use super::domain::{Domain, Membership};
use super::farewell::{Farewell, Watchers};
use super::limits::{Each, Overflow};
use super::program::{Body, Ending, Runnable};
use super::turn_context::Arrived;
use super::working_set::WorkingSet;
use crate::broken::{Rule, breaks};
use crate::process::{Budget, Event, ExitReason, Pid, Ties};
use crate::scheduler::Priority;
use spin::RelaxStrategy;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::Waker;

const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Bytes that a mailbox may hold without their being counted in its domain's memory.
const FREE_BYTES: u64 = 64 << 10;

/// So many events at the front of an inbox are looked at for a message that can be dropped.
const OLDEST_LOOKS: usize = 64;

/// The entry of one process, or a free entry.
pub(crate) struct Entry {
    control: SpinMutex<Control, Relax>,
    /// `arrived` holds events. Written under the lock; read without it, to see that there is no need to lock.
    pub(crate) has_mail: AtomicBool,
    /// The process has a pending exit: `pending_exit` is set. Written under the lock. The process itself reads it without
    /// the lock; its next call of the contract is its last.
    pub(crate) is_doomed: AtomicBool,
    /// The process was asked which function it is in. Written under the lock.
    pub(crate) is_asked: AtomicBool,
    /// How long it has been waiting for mail: one of [`idleness`]. A hint for the thread that hibernates processes.
    pub(crate) idleness: AtomicU8,
    /// The size of the process's linear memories, in wasm pages.
    memory_pages: AtomicU32,
}

// Each hibernated process has an entry, which is a third of the memory that it still takes.
const _: () = assert!(size_of::<Entry>() <= 224);

/// How long a process has been waiting for mail, in scans of the table.
pub(crate) mod idleness {
    /// It is not waiting for mail, or is hibernated already.
    pub(crate) const NONE: u8 = 0;
    /// It has begun to wait since the last scan.
    pub(crate) const JUST_NOW: u8 = 1;
    /// It was waiting at the last scan already.
    pub(crate) const FOR_A_LOOK: u8 = 2;
}

/// The held lock of an entry. It is a spinlock, because it is held for a few instructions only, three times per
/// message. A lock that waits in the kernel takes one atomic operation more to release.
pub(crate) type ControlGuard<'a> = SpinMutexGuard<'a, Control, Relax>;

/// The pause of a thread that finds the lock held, before it looks again.
pub(crate) struct Relax;

impl RelaxStrategy for Relax {
    fn relax() {
        // This takes longer than the lock is held, if its holder runs. If the holder does not run, it may need this
        // core.
        for _ in 0..16 {
            spin_loop();
        }
        std::thread::yield_now();
    }
}

/// The part of a process that others may touch.
pub(crate) struct Control {
    /// The process's id; 0, which is never an id, while the entry is free.
    pub(crate) id: u64,
    /// The rest of its pid, which is a secret.
    tag: u64,
    /// How many processes have had this entry.
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// The kind of event that the process waited for when it last stopped running.
    pub(crate) awaits: Awaits,
    /// Its waker was called since it began to run.
    pub(crate) woken: bool,
    /// The number of the wait that has a timer armed; 0 for none.
    pub(crate) alarm: u32,
    /// That timer has run out.
    pub(crate) expired: bool,
    /// The process waits for mail as far as others can see. In truth it is being hibernated, or it runs only to report
    /// its current function.
    pub(crate) seems_to_wait: bool,
    /// The pending exit: the process ends with this reason before it runs again.
    pub(crate) pending_exit: Option<Box<Ending>>,
    /// The rest of a teardown that takes several turns.
    pub(crate) farewell: Option<Box<Farewell>>,
    pub(crate) traps_exits: bool,
    pub(crate) hibernates: bool,
    pub(crate) priority: Priority,
    /// How often it has been suspended and not resumed.
    pub(crate) suspensions: u32,
    /// It would have been scheduled if it were not suspended.
    pub(crate) is_held_back: bool,
    /// The inbox: events that arrived since the receiver last took it over. No box is allocated while the process is
    /// hibernated.
    pub(crate) arrived: Option<Box<Arrived>>,
    /// The bytes of all events in the mailbox: those in the inbox and those in the receiver's own queue.
    pub(crate) mailbox_bytes: u64,
    /// An event is accepted without a further look if the mailbox then holds no more bytes than this.
    mailbox_room: u64,
    /// The bytes of the mailbox that are counted in the domain's memory.
    mailbox_held: u64,
    /// The number of those events.
    pub(crate) mailbox_events: u64,
    /// Messages that were dropped because there was no room for them.
    pub(crate) mailbox_dropped: u32,
    /// Reductions to the end of its last turn.
    pub(crate) reductions: u64,
    /// Turns that the scheduler withholds because the host's work in the last turn took as many slices.
    pub(crate) owed_turns: u16,
    /// It would have got its turn if its domain had not used more than its rate.
    pub(crate) is_out_of_credit: bool,
    /// None if it belongs to the system's own domain.
    pub(crate) domain: Option<Membership>,
    /// Links, monitors and so on, once there was one.
    pub(crate) ties: Option<Box<Ties<Timer>>>,
    /// Its execution, while it is not running.
    pub(crate) body: Option<Body>,
    /// The program imports host calls that can wait, so the process may wait for the end of one.
    pub(crate) has_host_calls: bool,
    /// Wakes the task that waits at a mailbox of the host.
    pub(crate) waker: Option<Box<Waker>>,
    pub(crate) identity: Option<Identity>,
    /// The tasks of the host that wait for the process's end. Nearly all processes have none.
    pub(crate) watchers: Option<Box<Watchers>>,
}

/// The identity of a guest process, for reports.
pub(crate) struct Identity {
    pub(crate) program: Arc<dyn Runnable>,
    pub(crate) function: u32,
    /// The id of the process that spawned it; 0 for the host.
    pub(crate) parent: u64,
    pub(crate) spawned_at_ns: u64,
    pub(crate) said: Option<Box<Said>>,
}

/// Texts about a process, which few have.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) label: Option<Box<str>>,
    /// The guest function that the process last reported.
    pub(crate) current_function: Option<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No process, or one that is being made.
    Absent,
    /// Its execution is gone; the teardown tells others.
    Exiting,
    /// A mailbox of the host: there is nothing to run.
    Host,
    /// Not in a run queue; something must happen first.
    Waiting,
    /// In a run queue.
    Scheduled,
    /// A scheduler is running it.
    Running,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaits {
    /// The end of a host call, or nothing but its turn.
    Host,
    /// Something in the mailbox, or a timeout.
    Mail,
}

/// The action that the caller must take for a process once it has released the process's lock.
#[must_use]
pub(crate) enum WakeAction {
    Nothing,
    /// Schedule the process, and prefetch the working set of its next turn if that is known.
    Schedule(Priority, Option<WorkingSet>),
    Wake(Waker),
}

/// The liveness of a process, as others may learn it. They learn of its end only when its last turn has ended.
pub(crate) enum Liveness {
    Alive,
    /// It has a pending exit but is still in its turn. It may still tell others what it does until the turn ends.
    Doomed,
    Gone,
}

impl Entry {
    pub(super) fn empty() -> Entry {
        Entry {
            control: SpinMutex::new(Control::new()),
            has_mail: AtomicBool::new(false),
            is_doomed: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            idleness: AtomicU8::new(idleness::NONE),
            memory_pages: AtomicU32::new(0),
        }
    }

    /// Notes how many bytes the process's linear memories hold. Called by the code that makes or runs the process.
    pub(crate) fn holds_memory(&self, bytes: u64) {
        let pages = bytes.div_ceil(WASM_PAGE_BYTES);
        self.memory_pages
            .store(pages.try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The bytes that the process's linear memories hold.
    pub(crate) fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_pages.load(Ordering::Relaxed)) * WASM_PAGE_BYTES
    }

    #[inline]
    pub(crate) fn control(&self) -> ControlGuard<'_> {
        self.control.lock()
    }

    /// Makes the entry that of a new process with this pid.
    pub(super) fn begin(&self, control: &mut Control, pid: Pid) {
        control.begin(pid);
        self.has_mail.store(false, Ordering::Relaxed);
        self.is_doomed.store(false, Ordering::Relaxed);
        self.is_asked.store(false, Ordering::Relaxed);
        self.idleness.store(idleness::NONE, Ordering::Relaxed);
        self.holds_memory(0);
    }
}

impl Control {
    fn new() -> Control {
        Control {
            id: 0,
            tag: 0,
            generation: 0,
            phase: Phase::Absent,
            awaits: Awaits::Host,
            woken: false,
            alarm: 0,
            expired: false,
            seems_to_wait: false,
            pending_exit: None,
            farewell: None,
            traps_exits: false,
            hibernates: false,
            priority: Priority::Normal,
            suspensions: 0,
            is_held_back: false,
            arrived: None,
            mailbox_bytes: 0,
            mailbox_room: 0,
            mailbox_held: 0,
            mailbox_events: 0,
            mailbox_dropped: 0,
            reductions: 0,
            owed_turns: 0,
            is_out_of_credit: false,
            domain: None,
            ties: None,
            body: None,
            has_host_calls: false,
            waker: None,
            identity: None,
            watchers: None,
        }
    }

    /// Gives the entry to the process with this pid. The teardown of the process before it has emptied the entry; this
    /// resets the settings.
    fn begin(&mut self, pid: Pid) {
        self.id = pid.id;
        self.tag = pid.node;
        self.mailbox_bytes = 0;
        self.mailbox_events = 0;
        self.mailbox_dropped = 0;
        self.reductions = 0;
        self.owed_turns = 0;
        self.is_out_of_credit = false;
        self.seems_to_wait = false;
        self.traps_exits = false;
        self.hibernates = false;
        self.priority = Priority::Normal;
        self.suspensions = 0;
        self.is_held_back = false;
    }

    /// The process begins with an empty mailbox, in the domain that it was given. `system` is the system's own domain.
    pub(crate) fn open_mailbox(&mut self, system: &Domain) {
        let each = self.each(system);
        // With a limit of messages, each event takes the second look.
        let is_counted = each.messages_max != u64::MAX;
        self.mailbox_room = match is_counted {
            true => 0,
            false => FREE_BYTES.min(each.mailbox_bytes_max),
        };
        self.mailbox_held = 0;
    }

    /// The limits of this process.
    pub(super) fn each(&self, system: &Domain) -> Each {
        self.domain_or(system).each
    }

    /// The domain that it belongs to.
    pub(super) fn domain_or<'a>(&'a self, system: &'a Domain) -> &'a Domain {
        self.domain
            .as_ref()
            .map_or(system, |member| member.domain())
    }

    /// Puts an event into the mailbox. If there is no room for it, the domain's limits say what becomes of it.
    #[inline]
    pub(crate) fn receive(&mut self, system: &Domain, entry: &Entry, event: Event) -> WakeAction {
        self.receive_new(system, entry, event.weight_bytes(), || event)
    }

    /// Does the same with an event that is made directly in the inbox.
    #[inline(always)]
    pub(crate) fn receive_new(
        &mut self,
        system: &Domain,
        entry: &Entry,
        weight: u64,
        event: impl FnOnce() -> Event,
    ) -> WakeAction {
        if self.mailbox_bytes + weight <= self.mailbox_room {
            return self.accept(entry, weight, event);
        }
        self.receive_beyond(system, entry, weight, event())
    }

    #[inline(always)]
    fn accept(&mut self, entry: &Entry, weight: u64, event: impl FnOnce() -> Event) -> WakeAction {
        self.mailbox_bytes += weight;
        self.mailbox_events += 1;
        let arrived = self.arrived.get_or_insert_default();
        arrived.reserve(1);
        arrived.push_back(Some(event()));
        self.seems_to_wait = false;
        entry.has_mail.store(true, Ordering::Release);
        self.mail()
    }

    /// Takes an event that needs more room than there is, if the process may have more.
    #[cold]
    fn receive_beyond(
        &mut self,
        system: &Domain,
        entry: &Entry,
        weight: u64,
        event: Event,
    ) -> WakeAction {
        let overflow = self.each(system).overflow;
        let is_message = matches!(event, Event::Message(_));
        if self.make_room(system, weight, is_message) || breaks(Rule::BudgetMissed) {
            return self.accept(entry, weight, || event);
        }
        match (self.phase, overflow) {
            // A flood does not end the host; the host loses events that its mailbox has no room for.
            (Phase::Host, _) => WakeAction::Nothing,
            (_, Overflow::Reject | Overflow::DropNewest) if is_message => {
                self.drop_event();
                WakeAction::Nothing
            }
            (_, Overflow::DropOldest) if is_message => {
                while self.drop_oldest() {
                    if self.make_room(system, weight, is_message) {
                        return self.accept(entry, weight, || event);
                    }
                }
                self.drop_event();
                WakeAction::Nothing
            }
            _ => self.end_with(entry, ExitReason::Exhausted(Budget::Mailbox), true),
        }
    }

    /// Does the mailbox have no room for a message of this weight, which is then dropped and its sender told?
    pub(super) fn rejects(&mut self, system: &Domain, weight: u64) -> bool {
        let drops = matches!(
            self.each(system).overflow,
            Overflow::Reject | Overflow::DropNewest
        );
        let has_room = |control: &mut Control| {
            control.mailbox_bytes + weight <= control.mailbox_room
                || control.make_room(system, weight, true)
        };
        if !drops || self.phase == Phase::Host || has_room(self) {
            return false;
        }
        self.drop_event();
        true
    }

    /// Makes room for one more event of this weight. Returns false if the mailbox may not hold so much.
    fn make_room(&mut self, system: &Domain, weight: u64, is_message: bool) -> bool {
        let each = self.each(system);
        // Signals are not dropped, so they have room beyond the messages.
        let is_beyond = !is_message && each.overflow != Overflow::End;
        let bytes_max = match is_beyond {
            true => each.mailbox_bytes_max.saturating_mul(2),
            false => each.mailbox_bytes_max,
        };
        let bytes = self.mailbox_bytes.saturating_add(weight);
        if bytes > bytes_max || (!is_beyond && self.mailbox_events >= each.messages_max) {
            return false;
        }
        let counted = bytes.saturating_sub(FREE_BYTES);
        if counted <= self.mailbox_held {
            return true;
        }
        // Twice as much as is needed, so that the domain is asked rarely.
        let ample = bytes.saturating_mul(2).min(bytes_max) - FREE_BYTES;
        [ample, counted]
            .into_iter()
            .any(|held| self.hold_mailbox(system, held))
    }

    /// Sets how many bytes of the mailbox are counted in the domain's memory. Returns false if it has too few left.
    fn hold_mailbox(&mut self, system: &Domain, held: u64) -> bool {
        if !self.domain_or(system).hold_mailbox(self.mailbox_held, held) {
            return false;
        }
        self.mailbox_held = held;
        let each = self.each(system);
        if each.messages_max == u64::MAX {
            self.mailbox_room = (FREE_BYTES + held).min(each.mailbox_bytes_max);
        }
        true
    }

    /// Gives back what the mailbox no longer needs.
    #[inline]
    pub(super) fn give_back_room(&mut self, system: &Domain) {
        if self.mailbox_held > 0 {
            self.shrink_room(system);
        }
    }

    #[cold]
    fn shrink_room(&mut self, system: &Domain) {
        let wanted = self
            .mailbox_bytes
            .saturating_mul(2)
            .saturating_sub(FREE_BYTES);
        if wanted < self.mailbox_held / 2 {
            self.hold_mailbox(system, wanted);
        }
    }

    /// Gives back all that the mailbox and the timers hold: the process has ended.
    pub(super) fn close_mailbox(&mut self, system: &Domain) {
        if self.mailbox_held > 0 {
            self.hold_mailbox(system, 0);
        }
        let held = self
            .ties
            .as_ref()
            .map_or(0, |ties| beyond_free(ties.timer_bytes));
        if held > 0 {
            self.domain_or(system).hold_mailbox(held, 0);
        }
    }

    /// Drops the oldest message of the inbox. Returns false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(arrived) = self.arrived.as_mut() else {
            return false;
        };
        let is_message = |event: &Option<Event>| matches!(event, Some(Event::Message(_)));
        let Some(at) = arrived.iter().take(OLDEST_LOOKS).position(is_message) else {
            return false;
        };
        if let Some(event) = arrived.remove(at).flatten() {
            self.mailbox_bytes -= event.weight_bytes();
            self.mailbox_events -= 1;
        }
        self.drop_event();
        true
    }

    fn drop_event(&mut self) {
        self.mailbox_dropped = self.mailbox_dropped.saturating_add(1);
    }

    /// Something happened that ends a wait for mail.
    pub(crate) fn mail(&mut self) -> WakeAction {
        match self.phase {
            Phase::Waiting if self.awaits == Awaits::Mail => self.schedule(),
            Phase::Host => match self.waker.take() {
                Some(waker) => WakeAction::Wake(*waker),
                None => WakeAction::Nothing,
            },
            _ => WakeAction::Nothing,
        }
    }

    /// A host call may be complete.
    pub(crate) fn wake(&mut self) -> WakeAction {
        if self.phase == Phase::Waiting && self.awaits == Awaits::Host {
            return self.schedule();
        }
        self.woken = true;
        WakeAction::Nothing
    }

    /// Gives the process a pending exit, whatever the process does now. The first reason stays.
    pub(crate) fn end_with(
        &mut self,
        entry: &Entry,
        reason: ExitReason,
        is_crash: bool,
    ) -> WakeAction {
        if self.pending_exit.is_none() {
            self.pending_exit = Some(Box::new(Ending { reason, is_crash }));
            entry.is_doomed.store(true, Ordering::Release);
        }
        self.end_again()
    }

    /// Gives a process with a pending exit a turn to end in, if it waits.
    pub(crate) fn end_again(&mut self) -> WakeAction {
        match self.phase {
            // A suspended process ends as well.
            Phase::Waiting if !breaks(Rule::ExitsLinger) => {
                self.phase = Phase::Scheduled;
                WakeAction::Schedule(self.priority, None)
            }
            _ => WakeAction::Nothing,
        }
    }

    /// Whether the process would go on waiting for mail if it got a turn.
    #[inline]
    pub(crate) fn waits_for_mail(&self) -> bool {
        self.awaits == Awaits::Mail
            && !self.has_mail()
            && !self.expired
            && self.pending_exit.is_none()
    }

    /// Whether something has arrived since the receiver last took over the inbox.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        let arrived = self.arrived.as_deref();
        arrived.is_some_and(|arrived| !arrived.is_empty())
    }

    pub(crate) fn is_hibernated(&self) -> bool {
        let body = self.body.as_ref();
        body.is_some_and(|body| body.is_hibernated())
    }

    /// Frees the inbox's buffer if the inbox is empty.
    pub(crate) fn shrink(&mut self) {
        if !self.has_mail() {
            self.arrived = None;
        }
    }

    /// The process's domain has credit for its turn again. Returns false if the process does not wait for that.
    pub(super) fn go_on(&mut self) -> Option<WakeAction> {
        let waits = std::mem::take(&mut self.is_out_of_credit) && self.phase == Phase::Waiting;
        waits.then(|| self.schedule())
    }

    /// The process is no longer suspended.
    pub(crate) fn let_go(&mut self) -> WakeAction {
        if std::mem::take(&mut self.is_held_back) && self.phase == Phase::Waiting {
            return self.schedule();
        }
        WakeAction::Nothing
    }

    fn schedule(&mut self) -> WakeAction {
        if self.suspensions > 0 {
            self.is_held_back = true;
            return WakeAction::Nothing;
        }
        // It stands in its domain's queue, and will be scheduled from there.
        if self.is_out_of_credit {
            return WakeAction::Nothing;
        }
        self.phase = Phase::Scheduled;
        let working_set = self.body.as_ref().and_then(|body| body.working_set());
        WakeAction::Schedule(self.priority, working_set)
    }

    /// Notes that the process has used so many reductions since it began, and counts the new ones in its domain.
    pub(super) fn spend(&mut self, reductions: u64) {
        if let Some(member) = &self.domain {
            let more = reductions.saturating_sub(self.reductions);
            member.domain().spend_reductions(more);
        }
        self.reductions = reductions;
    }

    /// Its ties, made if there are none yet.
    pub(crate) fn ties(&mut self) -> &mut Ties<Timer> {
        self.ties.get_or_insert_default()
    }

    /// The pid of the process.
    #[inline]
    pub(crate) fn pid(&self) -> Pid {
        Pid {
            node: self.tag,
            id: self.id,
        }
    }

    /// Whether this entry is that process's. A wrong id and a wrong tag take the same time.
    #[inline]
    fn is_pid(&self, pid: Pid) -> bool {
        (self.id ^ pid.id) | (self.tag ^ pid.node) == 0
    }

    /// Whether this entry is that process's, and the process lives.
    #[inline]
    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        // A free entry's id is 0, which must not be found even if some raw id enciphers to 0.
        (self.is_pid(pid) || breaks(Rule::StalePid))
            && !matches!(self.phase, Phase::Absent | Phase::Exiting)
            && self.pending_exit.is_none()
    }

    pub(crate) fn liveness(&self, pid: Pid) -> Liveness {
        if self.is_alive(pid) {
            Liveness::Alive
        } else if self.is_pid(pid) && self.phase == Phase::Running && self.pending_exit.is_some() {
            Liveness::Doomed
        } else {
            Liveness::Gone
        }
    }
}

/// The part of so many bytes that is counted in a domain's memory.
pub(super) fn beyond_free(bytes: u64) -> u64 {
    bytes.saturating_sub(FREE_BYTES)
}
