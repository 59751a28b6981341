//! A process seen from inside: the operations that its guest code may call, whichever way the guest is linked.

use super::alarm::{Alarm, AlarmOf};
use super::control::Entry;
use super::domain::{Domain, TreeEnd};
use super::program::{Ending, NewProcess, Runnable};
use super::rights::{Capabilities, Rights};
use super::spawn::Parent;
use super::{Shared, turn_context};
use crate::abi::BYTES_PER_REDUCTION;
use crate::process::{
    Destination, Event, Kinds, Message, Outgoing, Pid, Queue, Reference, Selector,
};
use crate::scheduler::{Priority, TimerKey};
use crate::wasi;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

/// Reductions that the parent pays for a spawn: about the cost of the host's work.
const SPAWN_REDUCTIONS: u64 = 400;
/// Reductions for packing and unpacking a process.
const HIBERNATION_REDUCTIONS: u64 = 400;

/// Reductions for making or removing a link, a monitor, a timer or a name.
const TIE_REDUCTIONS: u64 = 8;

/// Reductions for finding and copying one name of a list.
const NAME_REDUCTIONS: u64 = 4;

/// Names that one step of a listing gathers.
pub(super) const LISTED_AT_ONCE: usize = 1024;

/// A search through the mailbox costs one reduction for this many events that it passes over.
const LOOKS_PER_REDUCTION: u64 = 16;

/// The process that is running, with the state that only it may touch.
pub(crate) struct Current {
    pub(crate) shared: Arc<Shared>,
    pub(crate) program: Arc<dyn Runnable>,
    pub(crate) pid: Pid,
    pub(crate) argument: Box<[u8]>,
    index: u32,
    /// The last receiver and its index in the table. Most processes send to one receiver more often than to others, and
    /// deciphering its pid is 5 % of a hop in a ring of 100,000 Rust processes.
    addressee: (Pid, u32),
    queue: Queue,
    wait: Option<Wait>,
    pub(super) call: Option<Call>,
    /// The process has suspended another one and waits for the end of that one's turn.
    pub(super) is_suspending: bool,
    /// The process that was asked which function it is in.
    pub(super) asked_where: Option<Pid>,
    /// The end of a tree that this process carries out.
    pub(super) tree_end: Option<TreeEnd>,
    /// The domain that it belongs to. None for the system's own.
    domain: Option<Arc<Domain>>,
    /// The names that a listing has gathered so far.
    listing: Vec<Arc<str>>,
    /// How many waits had a timer. The count numbers the waits, so that a late timer is recognized.
    alarms: u32,
    /// Reductions charged for the host's work since the last pause.
    debt: u64,
    /// All reductions charged for the host's work.
    charged: u64,
}

/// A call that has been made and not been answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) reference: Reference,
    /// The server, which the call monitors. None if a process calls itself.
    pub(super) server: Option<Pid>,
}

/// A receive that has found no event yet.
struct Wait {
    /// All events before this position were searched.
    position: u64,
    timer: Option<TimerKey>,
}

/// The outcome of one search of the mailbox.
pub(crate) enum Received<E = Event> {
    Event(E),
    TimedOut,
    /// No event yet: the process must give up its turn and ask again with the same arguments.
    Wait,
}

/// The fate of a message: the contract's `delivery`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivery {
    Delivered,
    Full,
    NoProc,
}

/// The event that a search of the mailbox has found.
pub(crate) enum FoundEvent {
    /// The event is still at the front of the queue: see [`Current::first_short`].
    AtFront,
    Taken(Event),
}

impl Current {
    pub(crate) fn new(process: NewProcess) -> Current {
        Current {
            shared: process.shared,
            program: process.program,
            pid: process.pid,
            argument: process.argument,
            index: process.index,
            addressee: (Pid::NOBODY, 0),
            queue: Queue::default(),
            wait: None,
            call: None,
            is_suspending: false,
            asked_where: None,
            tree_end: None,
            domain: process.domain,
            listing: Vec::new(),
            alarms: 0,
            debt: 0,
            charged: 0,
        }
    }

    /// The domain that it belongs to.
    pub(crate) fn domain(&self) -> &Arc<Domain> {
        self.domain.as_ref().unwrap_or(&self.shared.domain)
    }

    /// The part of the system's grants for WASI that it has.
    pub(crate) fn wasi_part(&self) -> wasi::Part {
        let domain = self.domain();
        let Capabilities {
            rights,
            directories,
            network,
            ..
        } = domain.capabilities.clone();
        wasi::Part {
            handles_max: domain.each.handles_max,
            budget: self.domain.clone().map(|domain| domain as _),
            directories,
            network: match rights.contains(Rights::NETWORK) {
                true => network,
                false => Some(Arc::new(wasi::NetGrant::None)),
            },
            environment: rights.contains(Rights::ENVIRONMENT),
            standard_input: rights.contains(Rights::STANDARD_INPUT),
        }
    }

    /// Takes the first event that fits. OTP: `receive … after`.
    #[inline]
    pub(crate) fn receive(&mut self, selector: &Selector, timeout_ns: Option<u64>) -> Received {
        match self.search::<false>(selector, timeout_ns) {
            Received::Event(FoundEvent::Taken(event)) => Received::Event(event),
            Received::Event(FoundEvent::AtFront) => Received::Event(self.queue.take_front()),
            Received::TimedOut => Received::TimedOut,
            Received::Wait => Received::Wait,
        }
    }

    /// Like [`Current::receive`], but leaves a short message at the front of the queue in place: moving events is
    /// most of the cost of taking them.
    #[inline(always)]
    pub(crate) fn receive_in_place(
        &mut self,
        selector: &Selector,
        timeout_ns: Option<u64>,
    ) -> Received<FoundEvent> {
        self.search::<true>(selector, timeout_ns)
    }

    /// The short message that was left at the front of the queue.
    #[inline(always)]
    pub(crate) fn first_short(&self) -> Option<(&Message, [u64; 2])> {
        self.queue.front()?.short_message()
    }

    /// Removes the short message that was left at the front of the queue.
    #[inline(always)]
    pub(crate) fn drop_first_short(&mut self) {
        // A short message owns nothing, so dropping it would be a needless check.
        std::mem::forget(self.queue.take_front());
    }

    #[inline(always)]
    fn search<const IN_PLACE: bool>(
        &mut self,
        selector: &Selector,
        timeout_ns: Option<u64>,
    ) -> Received<FoundEvent> {
        let mut position = self.wait.as_ref().map_or(0, |wait| wait.position);
        loop {
            if IN_PLACE
                && let Some(first) = self.queue.first(selector, position)
                && first.short_message().is_some()
            {
                turn_context::taken(first.weight_bytes());
                self.charge_search();
                self.stop_waiting();
                return Received::Event(FoundEvent::AtFront);
            }
            match self.queue.take(selector, position) {
                Ok(event) => {
                    self.charge_search();
                    turn_context::taken(event.weight_bytes());
                    self.stop_waiting();
                    return Received::Event(FoundEvent::Taken(event));
                }
                Err(end) => position = end,
            }
            if turn_context::mail(|arrived| self.queue.append(arrived)) || self.fetch_mail() {
                continue;
            }
            if timeout_ns == Some(0) || self.is_expired() {
                self.charge_search();
                self.stop_waiting();
                return Received::TimedOut;
            }
            self.charge_search();
            self.queue.give_back_room(turn_context::give_buffer);
            turn_context::await_mail();
            self.wait_from(position, timeout_ns);
            return Received::Wait;
        }
    }

    /// Takes over the events that arrived during this turn. The end of the turn looks again under the lock, so no
    /// event that arrives later is missed.
    #[inline]
    fn fetch_mail(&mut self) -> bool {
        let entry = self.shared.table.entry(self.index);
        if !entry.has_mail.load(Ordering::Acquire) {
            return false;
        }
        let mut control = entry.control();
        if let Some(arrived) = &mut control.arrived {
            self.queue.append(arrived);
        }
        entry.has_mail.store(false, Ordering::Relaxed);
        true
    }

    fn is_expired(&self) -> bool {
        let is_armed = matches!(self.wait, Some(Wait { timer: Some(_), .. }));
        is_armed && self.entry().control().expired
    }

    /// Notes how far the search came. Arms the timer the first time.
    fn wait_from(&mut self, position: u64, timeout_ns: Option<u64>) {
        if let Some(wait) = &mut self.wait {
            wait.position = position;
            return;
        }
        let timer = timeout_ns.map(|timeout_ns| {
            // Zero means "no alarm": skip it when the numbers wrap.
            self.alarms = self.alarms.wrapping_add(1).max(1);
            self.entry().control().alarm = self.alarms;
            let deadline_ns = self.shared.scheduler.now().saturating_add(timeout_ns);
            let alarm = Alarm {
                pid: self.pid,
                of: AlarmOf::Wait(self.alarms),
            };
            self.shared.scheduler.arm(deadline_ns, alarm)
        });
        self.wait = Some(Wait { position, timer });
    }

    #[inline]
    fn stop_waiting(&mut self) {
        if let Some(Wait {
            timer: Some(timer), ..
        }) = self.wait.take()
        {
            self.shared.scheduler.cancel(timer);
            let mut control = self.entry().control();
            control.alarm = 0;
            control.expired = false;
        }
    }

    /// Sends a message with this process as its sender. The caller has checked the payload's size.
    #[inline(always)]
    pub(crate) fn send(&mut self, to: Pid, message: Outgoing) {
        self.charge_copy(message.payload.copied_bytes());
        if self.addressee.0 != to {
            let Some(index) = self.shared.table.index(to) else {
                return;
            };
            self.addressee = (to, index);
        }
        if self.addressee.1 == self.index {
            self.tell_taken();
        }
        let weight = message.weight_bytes();
        let event = || Event::Message(message.from(self.pid));
        self.shared.deliver_at(self.addressee.1, to, weight, event);
    }

    /// Tells the entry how much this turn has taken out of the mailbox, before the process sends to itself.
    #[cold]
    pub(super) fn tell_taken(&self) {
        let (events, bytes) = turn_context::tell_taken();
        let mut control = self.entry().control();
        control.mailbox_events -= events;
        control.mailbox_bytes -= bytes;
    }

    /// The process that has the name in its domain.
    pub(super) fn whereis_now(&self, name: &str) -> Option<Pid> {
        self.shared.whereis(self.domain(), name)
    }

    /// Sends to the process that has the name. Returns whether there is one. OTP: `Name ! Message`.
    pub(crate) fn send_named(&mut self, name: &str, message: Outgoing) -> bool {
        let to = self.whereis_now(name);
        match to {
            Some(pid) => self.send(pid, message),
            None => self.charge_copy(0),
        }
        to.is_some()
    }

    /// Sends a message and says what became of it. OTP: `erlang:send/3` with `nosuspend`.
    pub(crate) fn try_send(&mut self, to: &Destination, message: Outgoing) -> Delivery {
        self.charge_copy(message.payload.copied_bytes());
        let to = match to {
            Destination::Process(pid) => Some(*pid),
            Destination::Name(name) => self.whereis_now(name),
        };
        if to == Some(self.pid) {
            self.tell_taken();
        }
        let found = to.and_then(|to| self.shared.table.find(to));
        let Some((index, entry, mut control)) = found else {
            return Delivery::NoProc;
        };
        let event = Event::Message(message.from(self.pid));
        if control.rejects(&self.shared.domain, event.weight_bytes()) {
            return Delivery::Full;
        }
        let wake_action = control.receive(&self.shared.domain, entry, event);
        drop(control);
        self.shared.carry_out(index, wake_action);
        Delivery::Delivered
    }

    /// Answers a request. OTP: sending to an alias.
    pub(crate) fn reply(&mut self, to: Pid, request: Reference, message: Outgoing) {
        self.charge_copy(message.payload.copied_bytes());
        self.shared.reply(self.pid, to, request, message);
    }

    /// Makes a reference. The queue notes it, so that its answer is found quickly.
    pub(crate) fn make_reference(&mut self) -> Reference {
        let reference = self.shared.make_reference();
        self.mark_reference(reference);
        reference
    }

    /// Notes that no event in the queue carries this reference yet.
    ///
    /// Events that have arrived but were not taken over yet count as later ones: they are searched in vain, once.
    pub(super) fn mark_reference(&mut self, reference: Reference) {
        self.queue.mark(reference);
    }

    /// Takes an event that has arrived, without waiting.
    pub(super) fn take_now(&mut self, selector: &Selector) -> Option<Event> {
        self.take_over_mail();
        let taken = self.queue.take(selector, 0).ok()?;
        self.charge_search();
        turn_context::taken(taken.weight_bytes());
        Some(taken)
    }

    /// Removes the first event of these kinds with this reference from the mailbox. Returns whether there was one.
    pub(super) fn discard(&mut self, reference: Reference, kinds: Kinds) -> bool {
        self.take_over_mail();
        let fits =
            |event: &Event| kinds.contains(event.kind()) && event.reference() == Some(reference);
        let taken = self.queue.take_if(0, fits);
        self.charge_search();
        if let Ok(event) = &taken {
            turn_context::taken(event.weight_bytes());
        }
        taken.is_ok()
    }

    /// Removes all events of these kinds with this reference from the mailbox.
    pub(super) fn discard_all(&mut self, reference: Reference, kinds: Kinds) {
        self.take_over_mail();
        let fits =
            |event: &Event| kinds.contains(event.kind()) && event.reference() == Some(reference);
        let removed = |event: Event| turn_context::taken(event.weight_bytes());
        self.queue.remove_all(fits, removed);
        self.charge_search();
    }

    pub(super) fn take_over_mail(&mut self) {
        turn_context::mail(|arrived| self.queue.append(arrived));
        self.fetch_mail();
    }

    /// Was the process told to end since its turn began? Then the host call that it makes now is its last.
    #[inline]
    pub(crate) fn is_doomed(&self) -> bool {
        self.entry().is_doomed.load(Ordering::Acquire)
    }

    /// The pending exit, if there is one.
    #[cold]
    pub(crate) fn doom(&self) -> Option<Ending> {
        self.entry().control().pending_exit.as_deref().cloned()
    }

    /// OTP: `process_flag(priority, …)`.
    pub(crate) fn set_priority(&mut self, priority: Priority) -> Priority {
        std::mem::replace(&mut self.entry().control().priority, priority)
    }

    /// Gathers names. `more` gets the last name gathered so far and returns the next ones. Ready when there are no
    /// more.
    pub(super) fn list(
        &mut self,
        more: impl FnOnce(Option<&Arc<str>>) -> Vec<Arc<str>>,
    ) -> Poll<Vec<Arc<str>>> {
        let names = more(self.listing.last());
        self.charge(NAME_REDUCTIONS * names.len() as u64);
        let is_last = names.len() < LISTED_AT_ONCE;
        self.listing.extend(names);
        match is_last {
            true => Poll::Ready(std::mem::take(&mut self.listing)),
            false => Poll::Pending,
        }
    }

    /// Notes that the process asks to be hibernated in its next wait.
    pub(crate) fn hibernate(&mut self) {
        self.charge(HIBERNATION_REDUCTIONS);
        self.entry().control().hibernates = true;
    }

    /// Charges for a payload that the host copies.
    #[inline]
    pub(crate) fn charge_copy(&mut self, bytes: usize) {
        self.charge(1 + bytes as u64 / BYTES_PER_REDUCTION);
    }

    /// Charges for a spawn: for the argument's bytes and for the bytes of an instance.
    pub(crate) fn charge_spawn(&mut self, argument_bytes: usize, instance_bytes: u64) {
        self.charge(SPAWN_REDUCTIONS);
        self.charge(instance_bytes / BYTES_PER_REDUCTION);
        self.charge_copy(argument_bytes);
    }

    /// Charges for a link, a monitor, or another tie.
    #[inline]
    pub(super) fn charge_tie(&mut self) {
        self.charge(TIE_REDUCTIONS);
    }

    /// Charges for this many ties.
    pub(super) fn charge_ties(&mut self, count: usize) {
        self.charge(TIE_REDUCTIONS * count as u64);
    }

    #[inline]
    fn charge_search(&mut self) {
        let looks = self.queue.take_looks();
        self.charge(looks / LOOKS_PER_REDUCTION);
    }

    #[inline]
    pub(crate) fn charge(&mut self, reductions: u64) {
        self.debt += reductions;
        self.charged += reductions;
    }

    /// Has the host done a whole slice's work for this process since its last pause? Then it must pause now.
    #[inline]
    pub(crate) fn owes_pause(&self) -> bool {
        self.debt >= u64::from(self.shared.config.reductions)
    }

    /// Settles the debt when the process gives up its turn, for whatever reason. The turn pays for one slice of the
    /// host's work. For each further slice in the debt the process loses one more turn.
    #[inline]
    pub(crate) fn pauses(&mut self) {
        let slice = u64::from(self.shared.config.reductions);
        if self.debt < 2 * slice {
            self.debt = 0;
        } else {
            self.owe();
        }
    }

    #[cold]
    fn owe(&mut self) {
        let slice = u64::from(self.shared.config.reductions);
        turn_context::owes(self.debt / slice - 1);
        self.debt = 0;
    }

    /// Charges for the bytes that the guest has passed to a host call, whether the call uses them or not.
    pub(crate) fn charge_handed(&mut self, bytes: usize) {
        self.charge(bytes as u64 / BYTES_PER_REDUCTION);
    }

    /// All reductions charged for the host's work.
    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// It, as the parent of a process that it spawns.
    #[inline]
    pub(crate) fn as_parent(&self) -> Parent {
        Parent {
            index: self.index,
            pid: self.pid,
            domain: self.domain.clone(),
        }
    }

    #[inline]
    pub(crate) fn entry(&self) -> &Entry {
        self.shared.table.entry(self.index)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(Wait {
            timer: Some(timer), ..
        }) = self.wait.take()
        {
            self.shared.scheduler.cancel(timer);
        }
    }
}
