//! The contract for real components: wasmtime lifts and lowers the values, and functions that may wait are async.

use super::functions::{self, SPAWN_OPTIONS_MAX, SpawnOption};
use crate::engine::state::State;
use crate::process::{self, Budget, Kinds, Payload, SELECTOR_TAGS_MAX};
use crate::system::current::Received;
use crate::system::{self};
use std::future::poll_fn;
use std::task::Poll;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Result, bail};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "process",
        imports: {
            "atoll:process/mailbox.send": async | trappable,
            "atoll:process/mailbox.receive": async | trappable,
            "atoll:process/spawning.spawn": async | trappable,
            "atoll:process/lifecycle.yield-now": async | trappable,
            default: trappable,
        },
    });
}

use bindings::atoll::process::{lifecycle, mailbox, spawning, types};

/// Defines every interface of the contract.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    bindings::Process::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}

impl lifecycle::Host for State {
    fn self_(&mut self) -> Result<types::Pid> {
        Ok(self.current.pid.into())
    }

    fn argument(&mut self) -> Result<Vec<u8>> {
        Ok(self.current.argument.to_vec())
    }

    fn exit(&mut self, reason: types::ExitReason) -> Result<()> {
        Err(functions::exit(reason.into()))
    }

    fn is_alive(&mut self, process: types::Pid) -> Result<bool> {
        Ok(self.current.shared.is_alive(process.into()))
    }

    async fn yield_now(&mut self) -> Result<()> {
        give_up_turn().await;
        Ok(())
    }
}

impl mailbox::Host for State {
    async fn send(
        &mut self,
        to: types::Pid,
        envelope: mailbox::Envelope,
        payload: Vec<u8>,
    ) -> Result<()> {
        self.pause_if_owed().await;
        functions::check_message(&self.current, payload.len())?;
        let message = process::Outgoing {
            tag: envelope.tag,
            reference: envelope.reference.map(Into::into),
            format: envelope.format.into(),
            payload: Payload::from_vec(payload),
        };
        functions::send(&mut self.current, to.into(), message);
        Ok(())
    }

    async fn receive(
        &mut self,
        selector: mailbox::Selector,
        timeout_ns: Option<u64>,
    ) -> Result<Option<types::Event>> {
        self.pause_if_owed().await;
        let selector = match selector {
            mailbox::Selector::Any => process::Selector::Any,
            mailbox::Selector::Tag(tag) => process::Selector::Tag(tag),
            mailbox::Selector::Tags(tags) if tags.len() <= SELECTOR_TAGS_MAX => {
                process::Selector::Tags(tags.into())
            }
            mailbox::Selector::Tags(tags) => {
                bail!(
                    "receive: a selector may list {SELECTOR_TAGS_MAX} tags, not {}",
                    tags.len()
                )
            }
            mailbox::Selector::Reference(reference) => {
                process::Selector::Reference(reference.into())
            }
            mailbox::Selector::Kinds(kinds) => process::Selector::Kinds(kinds.into()),
        };
        let received = poll_fn(
            |_context| match self.current.receive(&selector, timeout_ns) {
                // The system saw what this process waits for; nobody needs a waker.
                Received::Wait => Poll::Pending,
                Received::TimedOut => Poll::Ready(None),
                Received::Event(event) => Poll::Ready(Some(event)),
            },
        )
        .await;
        Ok(received.map(Into::into))
    }

    fn make_reference(&mut self) -> Result<types::Reference> {
        Ok(self.current.make_reference().into())
    }
}

impl spawning::Host for State {
    async fn spawn(
        &mut self,
        program: Option<String>,
        function: String,
        argument: Vec<u8>,
        options: Vec<spawning::SpawnOption>,
    ) -> Result<Result<types::Pid, spawning::SpawnError>> {
        self.pause_if_owed().await;
        if options.len() > SPAWN_OPTIONS_MAX {
            bail!(
                "spawn: {} options are more than the limit of {SPAWN_OPTIONS_MAX}",
                options.len()
            );
        }
        let options = options.into_iter().map(SpawnOption::from);
        let spawned = functions::spawn(
            &mut self.current,
            program.as_deref(),
            &function,
            argument.into(),
            options,
        );
        Ok(spawned.map(Into::into).map_err(Into::into))
    }
}

impl State {
    /// Gives up the turn when the host has worked a whole slice for this process since its last pause.
    async fn pause_if_owed(&mut self) {
        if self.current.owes_pause() {
            give_up_turn().await;
        }
    }
}

async fn give_up_turn() {
    let mut given_up = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given_up, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl From<process::Pid> for types::Pid {
    fn from(pid: process::Pid) -> Self {
        Self {
            node: pid.node,
            id: pid.id,
        }
    }
}

impl From<types::Pid> for process::Pid {
    fn from(pid: types::Pid) -> Self {
        Self {
            node: pid.node,
            id: pid.id,
        }
    }
}

impl From<process::Reference> for types::Reference {
    fn from(reference: process::Reference) -> Self {
        Self {
            node: reference.node,
            id: reference.id,
        }
    }
}

impl From<types::Reference> for process::Reference {
    fn from(reference: types::Reference) -> Self {
        Self {
            node: reference.node,
            id: reference.id,
        }
    }
}

impl From<types::Format> for process::Format {
    fn from(format: types::Format) -> Self {
        match format {
            types::Format::Raw => Self::Raw,
            types::Format::ExternalTerm => Self::ExternalTerm,
        }
    }
}

impl From<process::Format> for types::Format {
    fn from(format: process::Format) -> Self {
        match format {
            process::Format::Raw => Self::Raw,
            process::Format::ExternalTerm => Self::ExternalTerm,
        }
    }
}

impl From<mailbox::EventKinds> for Kinds {
    fn from(kinds: mailbox::EventKinds) -> Self {
        let bit = |flag: mailbox::EventKinds, bit: u8| if kinds.contains(flag) { bit } else { 0 };
        Kinds::from_bits(
            bit(mailbox::EventKinds::MESSAGE, 1)
                | bit(mailbox::EventKinds::EXIT, 2)
                | bit(mailbox::EventKinds::DOWN, 4)
                | bit(mailbox::EventKinds::TIMER, 8),
        )
    }
}

impl From<types::Budget> for Budget {
    fn from(budget: types::Budget) -> Self {
        match budget {
            types::Budget::Memory => Self::Memory,
            types::Budget::Mailbox => Self::Mailbox,
            types::Budget::Message => Self::Message,
            types::Budget::Reductions => Self::Reductions,
            types::Budget::Resources => Self::Resources,
        }
    }
}

impl From<Budget> for types::Budget {
    fn from(budget: Budget) -> Self {
        match budget {
            Budget::Memory => Self::Memory,
            Budget::Mailbox => Self::Mailbox,
            Budget::Message => Self::Message,
            Budget::Reductions => Self::Reductions,
            Budget::Resources => Self::Resources,
        }
    }
}

impl From<types::ExitReason> for process::ExitReason {
    fn from(reason: types::ExitReason) -> Self {
        match reason {
            types::ExitReason::Normal => Self::Normal,
            types::ExitReason::Shutdown => Self::Shutdown,
            types::ExitReason::ShutdownWith(term) => Self::ShutdownWith(term.into()),
            types::ExitReason::Kill => Self::Kill,
            types::ExitReason::Killed => Self::Killed,
            types::ExitReason::Noproc => Self::NoProc,
            types::ExitReason::Noconnection => Self::NoConnection,
            types::ExitReason::Trap(text) => Self::Trap(text.into()),
            types::ExitReason::Exhausted(budget) => Self::Exhausted(budget.into()),
            types::ExitReason::ExitCode(code) => Self::ExitCode(code),
            types::ExitReason::Other(term) => Self::Other(term.into()),
        }
    }
}

impl From<process::ExitReason> for types::ExitReason {
    fn from(reason: process::ExitReason) -> Self {
        match reason {
            process::ExitReason::Normal => Self::Normal,
            process::ExitReason::Shutdown => Self::Shutdown,
            process::ExitReason::ShutdownWith(term) => Self::ShutdownWith(term.into()),
            process::ExitReason::Kill => Self::Kill,
            process::ExitReason::Killed => Self::Killed,
            process::ExitReason::NoProc => Self::Noproc,
            process::ExitReason::NoConnection => Self::Noconnection,
            process::ExitReason::Trap(text) => Self::Trap(text.into()),
            process::ExitReason::Exhausted(budget) => Self::Exhausted(budget.into()),
            process::ExitReason::ExitCode(code) => Self::ExitCode(code),
            process::ExitReason::Other(term) => Self::Other(term.into()),
        }
    }
}

impl From<process::Event> for types::Event {
    fn from(event: process::Event) -> Self {
        match event {
            process::Event::Message(message) => Self::Message(types::Message {
                sender: message.sender.into(),
                tag: message.tag,
                reference: message.reference.map(Into::into),
                format: message.format.into(),
                payload: message.payload.into_vec(),
            }),
            process::Event::Exit { sender, reason } => Self::Exit(types::ExitSignal {
                sender: sender.into(),
                reason: reason.into(),
            }),
            process::Event::Down {
                monitor,
                process,
                reason,
            } => Self::Down(types::DownSignal {
                monitor: monitor.into(),
                process: process.into(),
                reason: reason.into(),
            }),
            process::Event::Timer { timer, tag } => Self::Timer(types::TimerSignal {
                timer: timer.into(),
                tag,
            }),
        }
    }
}

impl From<spawning::SpawnOption> for SpawnOption {
    fn from(option: spawning::SpawnOption) -> Self {
        match option {
            spawning::SpawnOption::Link => Self::NotSupported("link"),
            spawning::SpawnOption::Monitor(_) => Self::NotSupported("monitor"),
            spawning::SpawnOption::Name(_) => Self::NotSupported("name"),
            spawning::SpawnOption::Priority(_) => Self::NotSupported("priority"),
            spawning::SpawnOption::MaxMemory(bytes) => Self::MaxMemory(bytes),
            spawning::SpawnOption::MaxMailbox(bytes) => Self::MaxMailbox(bytes),
            spawning::SpawnOption::Label(text) => Self::Label(text.into()),
        }
    }
}

impl From<system::SpawnError> for spawning::SpawnError {
    fn from(error: system::SpawnError) -> Self {
        match error {
            system::SpawnError::UnknownProgram => Self::UnknownProgram,
            system::SpawnError::UnknownFunction => Self::UnknownFunction,
            system::SpawnError::TooManyProcesses => Self::TooManyProcesses,
            system::SpawnError::NoMemory => Self::NoMemory,
            system::SpawnError::ArgumentTooLarge => Self::ArgumentTooLarge,
            system::SpawnError::NotSupported(option) => Self::NotSupported(option),
            system::SpawnError::Other(text) => Self::Other(text),
        }
    }
}
