//! Conversions between the values of wasmtime's bindings and Atoll's own types.

use super::bindings::atoll_rt::process::{inspection, mailbox, spawning, types};
use crate::contract::functions::SpawnOption;
use crate::process::{self, Budget, Kinds};
use crate::system::calls::CallError;
use crate::system::groups::JoinError;
use crate::system::limits::Limit;
use crate::system::rights::Rights;
use crate::{scheduler, system};

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
        [
            (mailbox::EventKinds::MESSAGE, Kinds::MESSAGE),
            (mailbox::EventKinds::EXIT, Kinds::EXIT),
            (mailbox::EventKinds::DOWN, Kinds::DOWN),
            (mailbox::EventKinds::TIMER, Kinds::TIMER),
            (mailbox::EventKinds::GROUP, Kinds::GROUP),
        ]
        .into_iter()
        .filter_map(|(flag, kind)| kinds.contains(flag).then_some(kind))
        .collect()
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
            process::ExitReason::ShutdownWith(term) => Self::ShutdownWith(term.to_vec()),
            process::ExitReason::Kill => Self::Kill,
            process::ExitReason::Killed => Self::Killed,
            process::ExitReason::NoProc => Self::Noproc,
            process::ExitReason::NoConnection => Self::Noconnection,
            process::ExitReason::Trap(text) => Self::Trap(text.to_string()),
            process::ExitReason::Exhausted(budget) => Self::Exhausted(budget.into()),
            process::ExitReason::ExitCode(code) => Self::ExitCode(code),
            process::ExitReason::Other(term) => Self::Other(term.to_vec()),
        }
    }
}

impl From<process::Event> for types::Event {
    fn from(event: process::Event) -> Self {
        match event {
            process::Event::Message(message) => Self::Message(message.into()),
            process::Event::Exit { sender, reason } => Self::Exit(types::ExitSignal {
                sender: sender.into(),
                reason: reason.into(),
            }),
            process::Event::Down {
                monitor,
                target,
                reason,
            } => Self::Down(types::DownSignal {
                monitor: monitor.into(),
                target: target.into(),
                reason: reason.into(),
            }),
            process::Event::Timer { timer, tag } => Self::Timer(types::TimerSignal {
                timer: timer.into(),
                tag,
            }),
            process::Event::Group {
                monitor,
                change,
                process,
            } => Self::Group(types::GroupSignal {
                monitor: monitor.into(),
                change: match change {
                    process::GroupChange::Joined => types::GroupChange::Joined,
                    process::GroupChange::Left => types::GroupChange::Left,
                },
                process: process.into(),
            }),
        }
    }
}

impl From<spawning::SpawnOption> for SpawnOption {
    fn from(option: spawning::SpawnOption) -> Self {
        match option {
            spawning::SpawnOption::Link => Self::Link,
            spawning::SpawnOption::Monitor(reference) => Self::Monitor(reference.into()),
            spawning::SpawnOption::Name(name) => Self::Name(name.into()),
            spawning::SpawnOption::Priority(priority) => Self::Priority(priority.into()),
            spawning::SpawnOption::Label(text) => Self::Label(text.into()),
            spawning::SpawnOption::Tree => Self::Tree,
            spawning::SpawnOption::Without(right) => Self::Without(right.into()),
            spawning::SpawnOption::Directory(path) => Self::Directory(path.into()),
            spawning::SpawnOption::Address(text) => Self::Address(text.into()),
            spawning::SpawnOption::Program(name) => Self::Program(name.into()),
            spawning::SpawnOption::OwnNames => Self::OwnNames,
            limit => Self::Limit(self::limit(limit)),
        }
    }
}

/// The limit that an option of a spawn sets.
fn limit(option: spawning::SpawnOption) -> Limit {
    use spawning::SpawnOption as Option;
    match option {
        Option::MaxMemory(bytes) => Limit::Memory(bytes),
        Option::MaxMailbox(bytes) => Limit::Mailbox(bytes),
        Option::MaxMessages(count) => Limit::Messages(count),
        Option::OnFullMailbox(overflow) => Limit::Overflow(overflow.into()),
        Option::MaxTies(count) => Limit::Ties(count),
        Option::MaxHandles(count) => Limit::Handles(count),
        Option::MaxTreeMemory(bytes) => Limit::TreeMemory(bytes),
        Option::MaxProcesses(count) => Limit::Processes(count),
        Option::MaxReductions(count) => Limit::Reductions(count),
        Option::MaxRate(thousandths) => Limit::Rate(thousandths),
        Option::MaxOutput(bytes) => Limit::Output(bytes),
        Option::MaxOutputRate(bytes) => Limit::OutputRate(bytes),
        Option::MaxBlocking(count) => Limit::Blocking(count),
        other => unreachable!("{other:?} is no limit"),
    }
}

impl From<types::Overflow> for system::Overflow {
    fn from(overflow: types::Overflow) -> Self {
        match overflow {
            types::Overflow::End => Self::End,
            types::Overflow::Reject => Self::Reject,
            types::Overflow::DropNewest => Self::DropNewest,
            types::Overflow::DropOldest => Self::DropOldest,
        }
    }
}

impl From<spawning::Right> for Rights {
    fn from(right: spawning::Right) -> Self {
        match right {
            spawning::Right::Signals => Self::SIGNALS,
            spawning::Right::Names => Self::NAMES,
            spawning::Right::Groups => Self::GROUPS,
            spawning::Right::Timers => Self::TIMERS,
            spawning::Right::Spawning => Self::SPAWNING,
            spawning::Right::Inspection => Self::INSPECTION,
            spawning::Right::Debugging => Self::DEBUGGING,
            spawning::Right::Files => Self::FILES,
            spawning::Right::Network => Self::NETWORK,
            spawning::Right::Environment => Self::ENVIRONMENT,
            spawning::Right::StandardInput => Self::STANDARD_INPUT,
            spawning::Right::Strangers => Self::STRANGERS,
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
            system::SpawnError::NameTaken => Self::NameTaken,
            system::SpawnError::NotGranted(name) => Self::NotGranted(name),
            system::SpawnError::NotSupported(option) => Self::NotSupported(option),
            system::SpawnError::Other(text) => Self::Other(text),
        }
    }
}

impl From<process::Message> for types::Message {
    fn from(message: process::Message) -> Self {
        Self {
            sender: message.sender.into(),
            tag: message.tag,
            reference: message.reference.map(Into::into),
            format: message.format.into(),
            payload: message.payload.into_vec(),
        }
    }
}

impl From<types::Destination> for process::Destination {
    fn from(to: types::Destination) -> Self {
        match to {
            types::Destination::Process(pid) => Self::Process(pid.into()),
            types::Destination::Name(name) => Self::Name(name.into()),
        }
    }
}

impl From<process::Destination> for types::Destination {
    fn from(to: process::Destination) -> Self {
        match to {
            process::Destination::Process(pid) => Self::Process(pid.into()),
            process::Destination::Name(name) => Self::Name(name.into()),
        }
    }
}

impl From<types::Priority> for scheduler::Priority {
    fn from(priority: types::Priority) -> Self {
        match priority {
            types::Priority::Low => Self::Low,
            types::Priority::Normal => Self::Normal,
            types::Priority::High => Self::High,
        }
    }
}

impl From<scheduler::Priority> for types::Priority {
    fn from(priority: scheduler::Priority) -> Self {
        match priority {
            scheduler::Priority::Low => Self::Low,
            scheduler::Priority::Normal => Self::Normal,
            scheduler::Priority::High => Self::High,
        }
    }
}

impl From<CallError> for mailbox::CallError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Timeout => Self::Timeout,
            CallError::Down(reason) => Self::Down(reason.into()),
            CallError::Full => Self::Full,
        }
    }
}

impl From<system::RegisterError> for super::bindings::atoll_rt::process::names::RegisterError {
    fn from(error: system::RegisterError) -> Self {
        match error {
            system::RegisterError::Taken => Self::Taken,
            system::RegisterError::AlreadyNamed => Self::AlreadyNamed,
            system::RegisterError::NoProc => Self::Noproc,
            system::RegisterError::BadName => Self::BadName,
        }
    }
}

impl From<JoinError> for super::bindings::atoll_rt::process::groups::JoinError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::NoProc => Self::Noproc,
            JoinError::BadName => Self::BadName,
            JoinError::TooMany => Self::TooMany,
        }
    }
}

impl From<system::Status> for inspection::Status {
    fn from(status: system::Status) -> Self {
        match status {
            system::Status::Running => Self::Running,
            system::Status::Runnable => Self::Runnable,
            system::Status::Waiting => Self::Waiting,
            system::Status::WaitingForHost => Self::WaitingForHost,
            system::Status::Suspended => Self::Suspended,
            system::Status::Exiting => Self::Exiting,
            system::Status::Host => Self::Host,
        }
    }
}

impl From<system::Spent> for inspection::Spent {
    fn from(spent: system::Spent) -> Self {
        Self {
            used: spent.used,
            limit: spent.limit,
        }
    }
}

impl From<system::TreeInfo> for inspection::TreeInfo {
    fn from(tree: system::TreeInfo) -> Self {
        Self {
            root: tree.root.into(),
            memory: tree.memory.into(),
            processes: tree.processes.into(),
            reductions: tree.reductions.into(),
            output: tree.output.into(),
            rate: tree.rate,
            waiting: tree.waiting,
        }
    }
}

impl From<system::ProcessInfo> for inspection::ProcessInfo {
    fn from(info: system::ProcessInfo) -> Self {
        Self {
            status: info.status.into(),
            priority: info.priority.into(),
            trap_exit: info.traps_exits,
            hibernates: info.hibernates,
            reductions: info.reductions,
            memory_bytes: info.memory_bytes,
            mailbox_events: info.mailbox_events,
            mailbox_bytes: info.mailbox_bytes,
            timers: info.timers as u64,
            age: u64::try_from(info.age.as_nanos()).unwrap_or(u64::MAX),
            parent: info.parent.map(Into::into),
            name: info.name,
            label: info.label,
            program: info.program,
            function: info.function,
            current_function: info.current_function,
            links: info.links.into_iter().map(Into::into).collect(),
            monitors: info.monitors.into_iter().map(Into::into).collect(),
            monitored_by: info.monitored_by.into_iter().map(Into::into).collect(),
            mailbox_dropped: info.mailbox_dropped,
            tree: info.tree.map(Into::into),
        }
    }
}
