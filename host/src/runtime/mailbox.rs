//! Mailboxes of the host: each has a pid like a process, and the embedding program receives its events.

use crate::process::{AliasUse, Event, ExitReason, Outgoing, Pid, Queue, Reference, Selector};
use crate::scheduler::TimerKey;
use crate::system::alarm::{Alarm, AlarmOf};
use crate::system::control::Phase;
use crate::system::{Shared, SpawnError};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// A mailbox of the host. Its pid lives as long as the mailbox.
pub struct HostMailbox {
    shared: Arc<Shared>,
    index: u32,
    pid: Pid,
    queue: Queue,
    alarms: u32,
    /// The references that were made last and by which answers can come, the oldest first.
    awaited: VecDeque<Reference>,
}

/// The number of references by which answers to one mailbox can come. Older references are given up.
const AWAITED_MAX: usize = 1024;

impl HostMailbox {
    pub(super) fn open(shared: Arc<Shared>) -> Result<HostMailbox, SpawnError> {
        let (index, pid) = shared
            .table
            .reserve()
            .map_err(|_| SpawnError::TooManyProcesses)?;
        let mut control = shared.table.entry(index).control();
        control.phase = Phase::Host;
        control.open_mailbox(&shared.domain);
        drop(control);
        Ok(HostMailbox {
            shared,
            index,
            pid,
            queue: Queue::default(),
            alarms: 0,
            awaited: VecDeque::new(),
        })
    }

    /// The pid to which guests send.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends with this mailbox as the sender. Never waits, and never says whether the receiver exists.
    pub fn send(&self, to: Pid, message: Outgoing) {
        self.shared.send_from(self.pid, to, message);
    }

    /// Sends an exit signal with this mailbox as the sender. OTP: `exit/2`.
    pub fn exit_process(&self, to: Pid, reason: ExitReason) {
        self.shared.send_exit(self.pid, to, reason);
    }

    /// Answers a request of a guest that waits in `call` or has made an alias. The answer is dropped if the guest
    /// does not wait for it any more. OTP: `gen_server:reply/2`.
    pub fn reply(&self, to: Pid, request: Reference, message: Outgoing) {
        self.shared.reply(self.pid, to, request, message);
    }

    /// Makes a reference by which an answer can be received: a message that carries it, or one `reply`. Replies
    /// arrive for the newest 1,024 references.
    pub fn make_reference(&mut self) -> Reference {
        let reference = self.shared.make_reference();
        self.queue.mark(reference);
        let mut control = self.shared.table.entry(self.index).control();
        let aliases = &mut control.ties().aliases;
        aliases.insert(reference, AliasUse::Reply);
        self.awaited.push_back(reference);
        if self.awaited.len() > AWAITED_MAX
            && let Some(oldest) = self.awaited.pop_front()
        {
            aliases.remove(&oldest);
        }
        reference
    }

    /// Takes the first event that fits, and waits for one until the timeout. Events that don't fit stay in the
    /// mailbox. A mailbox that holds `max_mailbox` bytes loses further events.
    ///
    /// Cancel-safe: a future that is dropped has taken no event and leaves nothing behind.
    pub async fn receive(
        &mut self,
        selector: Selector,
        timeout: Option<Duration>,
    ) -> Option<Event> {
        let deadline_ns = timeout.map(|timeout| {
            let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            self.shared.scheduler.now().saturating_add(timeout_ns)
        });
        let mut position = 0;
        let mut armed = Armed {
            shared: self.shared.clone(),
            index: self.index,
            timer: None,
        };
        poll_fn(|context| {
            self.poll_receive(&selector, &mut position, deadline_ns, &mut armed, context)
        })
        .await
    }

    /// Like [`HostMailbox::receive`], for a thread that may block.
    pub fn receive_blocking(
        &mut self,
        selector: Selector,
        timeout: Option<Duration>,
    ) -> Option<Event> {
        block_on(self.receive(selector, timeout))
    }

    fn poll_receive(
        &mut self,
        selector: &Selector,
        position: &mut u64,
        deadline_ns: Option<u64>,
        armed: &mut Armed,
        context: &mut Context<'_>,
    ) -> Poll<Option<Event>> {
        let entry = self.shared.table.entry(self.index);
        loop {
            match self.queue.take(selector, *position) {
                Ok(event) => {
                    let mut control = entry.control();
                    control.mailbox_bytes -= event.weight_bytes();
                    control.mailbox_events -= 1;
                    return Poll::Ready(Some(event));
                }
                Err(end) => *position = end,
            }
            let mut control = entry.control();
            if let Some(arrived) = control.arrived.as_deref_mut()
                && !arrived.is_empty()
            {
                self.queue.append(arrived);
                continue;
            }
            let now_ns = self.shared.scheduler.now();
            if control.expired || deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
                return Poll::Ready(None);
            }
            control.waker = Some(Box::new(context.waker().clone()));
            if let (Some(deadline_ns), None) = (deadline_ns, &armed.timer) {
                self.alarms = self.alarms.wrapping_add(1).max(1);
                control.alarm = self.alarms;
                drop(control);
                let alarm = Alarm {
                    pid: self.pid,
                    of: AlarmOf::Wait(self.alarms),
                };
                armed.timer = Some(self.shared.scheduler.arm(deadline_ns, alarm));
            }
            return Poll::Pending;
        }
    }
}

/// The timer of one receive. It is cancelled when the receive ends in any way.
struct Armed {
    shared: Arc<Shared>,
    index: u32,
    timer: Option<TimerKey>,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut control = self.shared.table.entry(self.index).control();
        control.waker = None;
        if let Some(timer) = self.timer.take() {
            control.alarm = 0;
            control.expired = false;
            drop(control);
            self.shared.scheduler.cancel(timer);
        }
    }
}

impl Drop for HostMailbox {
    fn drop(&mut self) {
        self.shared.close_mailbox(self.index);
    }
}

/// Runs a future on this thread. The thread sleeps while there is nothing to do.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
