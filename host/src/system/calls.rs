//! Requests and answers: `call`, `reply`, aliases. OTP: `gen_server:call/3`, `alias/1`.
//!
//! ```text
//!   caller                                      server
//!   ------                                      ------
//!   start_call: alias + monitor + message ────► mailbox
//!   await_answer … waits for the reference      receive
//!   mailbox, if the alias is there  ◄────────── reply: takes the alias, and the call's monitor with it
//!   end_call: takes back the rest
//! ```
//!
//! A reply that comes after the alias is gone is dropped on arrival: neither a late answer nor a late down-signal
//! reaches the mailbox of a caller that has gone on.

use super::Shared;
use super::current::{Call, Current, Received};
use super::table::FoundBoth;
use crate::broken::{Rule, breaks};
use crate::process::{
    AliasUse, Destination, Event, ExitReason, Message, Monitored, Outgoing, Pid, Reference,
    Selector,
};
use std::task::Poll;

/// The reason for which a call has no answer: the contract's `call-error`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CallError {
    Timeout,
    Down(ExitReason),
    /// The server's mailbox had no room for the request.
    Full,
}

impl Shared {
    /// Answers a request, if the caller still waits for the answer. OTP: sending to an alias.
    pub(crate) fn reply(&self, from: Pid, to: Pid, request: Reference, message: Outgoing) {
        let Some((index, entry, mut control)) = self.table.find(to) else {
            return;
        };
        let used = control.ties.as_mut().and_then(|ties| {
            let used = ties.aliases.remove(&request)?;
            if used == AliasUse::Call {
                ties.monitors.remove(&request);
            }
            Some(used)
        });
        if used.is_none() && !breaks(Rule::LateReplyArrives) {
            return;
        }
        let mut message = message.reference(request).from(from);
        message.is_reply = true;
        let wake_action = control.receive(&self.domain, entry, Event::Message(message));
        drop(control);
        self.carry_out(index, wake_action);
    }
}

impl Current {
    /// OTP: `alias([reply])`.
    pub(crate) fn alias(&mut self) -> Reference {
        self.charge_tie();
        let reference = self.make_reference();
        let entry = self.entry();
        let mut control = entry.control();
        if self.shared.may_tie(entry, &mut control) {
            control.ties().aliases.insert(reference, AliasUse::Reply);
        }
        reference
    }

    /// OTP: `unalias/1`.
    pub(crate) fn unalias(&mut self, alias: Reference) -> bool {
        self.charge_tie();
        let mut control = self.entry().control();
        let ties = control.ties.as_mut();
        ties.is_some_and(|ties| ties.aliases.remove(&alias).is_some())
    }

    /// Is a call under way, so that the process waits for its answer only?
    pub(crate) fn is_calling(&self) -> bool {
        self.call.is_some()
    }

    /// Sends the request of a call and monitors the server. Ready with an error if there is no server. Pending while
    /// the server is in its last turn: the process must ask again.
    pub(crate) fn start_call(
        &mut self,
        to: &Destination,
        message: Outgoing,
    ) -> Poll<Result<(), CallError>> {
        self.charge_copy(message.payload.len());
        self.charge_tie();
        let no_server = Poll::Ready(Err(CallError::Down(ExitReason::NoProc)));
        let server = match to {
            Destination::Process(pid) => *pid,
            Destination::Name(name) => match self.whereis_now(name) {
                Some(pid) => pid,
                None => return no_server,
            },
        };
        let reference = self.shared.make_reference();
        let event = Event::Message(message.reference(reference).from(self.pid));
        let entry = self.entry();
        if server == self.pid {
            self.tell_taken();
            let mut own = entry.control();
            if self.shared.may_tie(entry, &mut own) {
                own.ties().aliases.insert(reference, AliasUse::Reply);
                let _ = own.receive(&self.shared.domain, entry, event);
            }
            drop(own);
            // The request carries the reference, too, but is no answer. It must lie before the mark.
            self.take_over_mail();
            self.wait_for_answer(reference, None);
            return Poll::Ready(Ok(()));
        }
        let (other_index, wake_action) = match self.shared.table.find_both(self.index(), server) {
            FoundBoth::Alive {
                mut own,
                mut other,
                other_index,
                other_entry,
            } => {
                if !self.shared.may_tie(entry, &mut own) {
                    return no_server;
                }
                if other.rejects(&self.shared.domain, event.weight_bytes()) {
                    return Poll::Ready(Err(CallError::Full));
                }
                let monitored = Monitored {
                    process: server,
                    name: None,
                };
                let ties = own.ties();
                ties.monitors.insert(reference, monitored);
                ties.aliases.insert(reference, AliasUse::Call);
                other.ties().monitored_by.insert(reference, self.pid);
                (
                    other_index,
                    other.receive(&self.shared.domain, other_entry, event),
                )
            }
            FoundBoth::Doomed => return Poll::Pending,
            FoundBoth::Gone(_) => return no_server,
        };
        self.shared.carry_out(other_index, wake_action);
        self.wait_for_answer(reference, Some(server));
        Poll::Ready(Ok(()))
    }

    fn wait_for_answer(&mut self, reference: Reference, server: Option<Pid>) {
        self.mark_reference(reference);
        self.call = Some(Call { reference, server });
    }

    /// Waits for the answer to the call that was started.
    pub(crate) fn await_answer(
        &mut self,
        timeout_ns: Option<u64>,
    ) -> Poll<Result<Message, CallError>> {
        let Some(call) = self.call else {
            return Poll::Ready(Err(CallError::Timeout));
        };
        let selector = Selector::Answer(call.reference);
        let event = match self.receive(&selector, timeout_ns) {
            Received::Wait => return Poll::Pending,
            Received::TimedOut => None,
            Received::Event(event) => Some(event),
        };
        self.end_call(call);
        // The answer may have come between the time-out and the end of the call.
        let event = event.or_else(|| self.take_now(&selector));
        Poll::Ready(match event {
            Some(Event::Message(message)) => Ok(message),
            Some(Event::Down { reason, .. }) => Err(CallError::Down(reason)),
            _ => Err(CallError::Timeout),
        })
    }

    fn end_call(&mut self, call: Call) {
        self.call = None;
        if let Some(ties) = self.entry().control().ties.as_mut() {
            ties.monitors.remove(&call.reference);
            ties.aliases.remove(&call.reference);
        }
        if let Some(server) = call.server {
            self.shared.forget_monitored_by(server, call.reference);
        }
    }
}
