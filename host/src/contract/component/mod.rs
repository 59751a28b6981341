//! The contract for components. wasmtime lifts and lowers the values, and functions that may wait are async.

mod convert;
mod guard;
mod random;

use super::functions::{self, SpawnOption};
use crate::engine::state::State;
use crate::engine::state::survives;
use crate::process::{self, Outgoing};
use crate::system::alarm::Sends;
use crate::system::current::{Current, Delivery, Received};
use guard::{Calls, Guarded, give_up_turn, guarded};
use std::future::poll_fn;
use std::task::Poll;
use wasmtime::Result;
use wasmtime::component::Linker;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "process",
        imports: {
            "atoll-rt:process/lifecycle.self": trappable,
            "atoll-rt:process/lifecycle.exit": trappable,
            "atoll-rt:process/lifecycle.set-priority": trappable,
            "atoll-rt:process/lifecycle.hibernate": trappable,
            "atoll-rt:process/signals.trap-exit": trappable,
            default: async | trappable,
        },
    });
}

use bindings::atoll_rt::process::{
    debugging, groups, inspection, lifecycle, mailbox, names, signals, spawning, timers, types,
};

/// Links every interface of the contract. Loading refuses a program that imports one that it is not granted.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    lifecycle::add_to_linker::<State, Calls>(linker, guarded)?;
    mailbox::add_to_linker::<State, Calls>(linker, guarded)?;
    signals::add_to_linker::<State, Calls>(linker, guarded)?;
    names::add_to_linker::<State, Calls>(linker, guarded)?;
    groups::add_to_linker::<State, Calls>(linker, guarded)?;
    timers::add_to_linker::<State, Calls>(linker, guarded)?;
    spawning::add_to_linker::<State, Calls>(linker, guarded)?;
    types::add_to_linker::<State, Calls>(linker, guarded)?;
    random::link(linker)?;
    inspection::add_to_linker::<State, Calls>(linker, guarded)?;
    debugging::add_to_linker::<State, Calls>(linker, guarded)?;
    Ok(())
}

impl types::Host for Guarded<'_> {}

/// Makes a message to be sent, if it is not too large.
fn outgoing(current: &Current, envelope: mailbox::Envelope, payload: Vec<u8>) -> Result<Outgoing> {
    functions::check_message(current, payload.len())?;
    Ok(Outgoing {
        tag: envelope.tag,
        reference: envelope.reference.map(Into::into),
        format: envelope.format.into(),
        payload: payload.into(),
    })
}

/// Makes a message whose reference the host chooses.
fn unreferenced(
    current: &Current,
    tag: u32,
    format: types::Format,
    payload: Vec<u8>,
) -> Result<Outgoing> {
    let envelope = mailbox::Envelope {
        tag,
        reference: None,
        format,
    };
    outgoing(current, envelope, payload)
}

/// Makes an exit reason to be sent, if it is not too large.
fn reason(current: &Current, reason: types::ExitReason) -> Result<process::ExitReason> {
    let reason = process::ExitReason::from(reason);
    functions::check_message(current, reason.len())?;
    Ok(reason)
}

/// Copies texts for the guest, which pays for them.
fn texts(current: &mut Current, texts: Vec<std::sync::Arc<str>>) -> Vec<String> {
    current.charge_copy(texts.iter().map(|text| text.len()).sum());
    texts.iter().map(|text| text.to_string()).collect()
}

/// The same for pids.
fn pids(current: &mut Current, pids: Vec<process::Pid>) -> Vec<types::Pid> {
    current.charge_copy(size_of_val(&*pids));
    pids.into_iter().map(Into::into).collect()
}

impl lifecycle::Host for Guarded<'_> {
    fn self_(&mut self) -> Result<types::Pid> {
        Ok(self.begin_at_once()?.pid.into())
    }

    async fn argument(&mut self) -> Result<Vec<u8>> {
        let current = self.begin().await?;
        current.charge_copy(current.argument.len());
        Ok(current.argument.to_vec())
    }

    fn exit(&mut self, reason: types::ExitReason) -> Result<()> {
        let reason = self::reason(self.begin_at_once()?, reason)?;
        Err(functions::exit(reason))
    }

    async fn is_alive(&mut self, process: types::Pid) -> Result<bool> {
        let pid = process.into();
        self.retry(|current| current.is_alive(pid)).await
    }

    async fn yield_now(&mut self) -> Result<()> {
        give_up_turn().await;
        Ok(())
    }

    fn set_priority(&mut self, priority: types::Priority) -> Result<types::Priority> {
        let current = self.begin_at_once()?;
        Ok(current.set_priority(priority.into()).into())
    }

    fn hibernate(&mut self) -> Result<()> {
        self.begin_at_once()?.hibernate();
        Ok(())
    }
}

impl mailbox::Host for Guarded<'_> {
    async fn send(
        &mut self,
        to: types::Pid,
        envelope: mailbox::Envelope,
        payload: Vec<u8>,
    ) -> Result<()> {
        let current = self.begin().await?;
        let message = outgoing(current, envelope, payload)?;
        current.send(to.into(), message);
        Ok(())
    }

    async fn send_named(
        &mut self,
        name: String,
        envelope: mailbox::Envelope,
        payload: Vec<u8>,
    ) -> Result<bool> {
        let current = self.begin_with(name.len()).await?;
        let message = outgoing(current, envelope, payload)?;
        Ok(current.send_named(&name, message))
    }

    async fn try_send(
        &mut self,
        to: types::Destination,
        envelope: mailbox::Envelope,
        payload: Vec<u8>,
    ) -> Result<mailbox::Delivery> {
        let to: process::Destination = to.into();
        let current = self.begin_with(to.bytes()).await?;
        let message = outgoing(current, envelope, payload)?;
        Ok(match current.try_send(&to, message) {
            Delivery::Delivered => mailbox::Delivery::Delivered,
            Delivery::Full => mailbox::Delivery::Full,
            Delivery::NoProc => mailbox::Delivery::Noproc,
        })
    }

    async fn receive(
        &mut self,
        selector: mailbox::Selector,
        timeout_ns: Option<u64>,
    ) -> Result<Option<types::Event>> {
        let current = self.begin().await?;
        let selector = match selector {
            mailbox::Selector::Any => process::Selector::Any,
            mailbox::Selector::Tag(tag) => process::Selector::Tag(tag),
            mailbox::Selector::Tags(tags) => {
                functions::check_tags(tags.len())?;
                process::Selector::Tags(tags.into_iter().collect())
            }
            mailbox::Selector::Reference(reference) => {
                process::Selector::Reference(reference.into())
            }
            mailbox::Selector::Kinds(kinds) => process::Selector::Kinds(kinds.into()),
        };
        let received = poll_fn(|_context| match current.receive(&selector, timeout_ns) {
            // The system has noted what this process waits for, so no waker is needed.
            Received::Wait => Poll::Pending,
            Received::TimedOut => Poll::Ready(None),
            Received::Event(event) => Poll::Ready(Some(event)),
        })
        .await;
        Ok(received.map(Into::into))
    }

    async fn make_reference(&mut self) -> Result<types::Reference> {
        Ok(self.begin().await?.make_reference().into())
    }

    async fn call(
        &mut self,
        to: types::Destination,
        tag: u32,
        format: types::Format,
        payload: Vec<u8>,
        timeout_ns: Option<u64>,
    ) -> Result<Result<types::Message, mailbox::CallError>> {
        let to: process::Destination = to.into();
        let current = self.begin_with(to.bytes()).await?;
        let message = unreferenced(current, tag, format, payload)?;
        let started = self.retry(|current| current.start_call(&to, message.clone()));
        if let Err(error) = started.await? {
            return Ok(Err(error.into()));
        }
        let current = self.begin().await?;
        let answer = poll_fn(|_context| current.await_answer(timeout_ns)).await;
        Ok(answer.map(Into::into).map_err(Into::into))
    }

    async fn reply(
        &mut self,
        to: types::Pid,
        request: types::Reference,
        tag: u32,
        format: types::Format,
        payload: Vec<u8>,
    ) -> Result<()> {
        let current = self.begin().await?;
        let message = unreferenced(current, tag, format, payload)?;
        current.reply(to.into(), request.into(), message);
        Ok(())
    }

    async fn alias(&mut self) -> Result<types::Reference> {
        let current = self.begin().await?;
        let alias = current.alias();
        survives(current)?;
        Ok(alias.into())
    }

    async fn unalias(&mut self, alias: types::Reference) -> Result<bool> {
        Ok(self.begin().await?.unalias(alias.into()))
    }
}

impl signals::Host for Guarded<'_> {
    async fn exit_process(&mut self, process: types::Pid, reason: types::ExitReason) -> Result<()> {
        let current = self.begin().await?;
        let reason = self::reason(current, reason)?;
        current.exit_process(process.into(), reason);
        survives(current)
    }

    async fn kill_tree(&mut self, root: types::Pid) -> Result<bool> {
        let root = root.into();
        self.retry(|current| current.kill_tree(root)).await
    }

    fn trap_exit(&mut self, trap: bool) -> Result<bool> {
        Ok(self.begin_at_once()?.trap_exits(trap))
    }

    async fn link(&mut self, process: types::Pid) -> Result<()> {
        let pid = process.into();
        self.retry(|current| current.link(pid)).await
    }

    async fn unlink(&mut self, process: types::Pid) -> Result<()> {
        self.begin().await?.unlink(process.into());
        Ok(())
    }

    async fn monitor(&mut self, target: types::Destination) -> Result<types::Reference> {
        let target: process::Destination = target.into();
        self.begin_with(target.bytes()).await?;
        let monitor = self.retry(|current| current.monitor(&target)).await?;
        Ok(monitor.into())
    }

    async fn demonitor(&mut self, monitor: types::Reference, flush: bool) -> Result<bool> {
        Ok(self.begin().await?.demonitor(monitor.into(), flush))
    }
}

impl names::Host for Guarded<'_> {
    async fn register(
        &mut self,
        name: String,
        process: types::Pid,
    ) -> Result<Result<(), names::RegisterError>> {
        let current = self.begin_with(name.len()).await?;
        let registered = current.register(&name, process.into());
        survives(current)?;
        Ok(registered.map_err(Into::into))
    }

    async fn unregister(&mut self, name: String) -> Result<bool> {
        Ok(self.begin_with(name.len()).await?.unregister(&name))
    }

    async fn whereis(&mut self, name: String) -> Result<Option<types::Pid>> {
        let current = self.begin_with(name.len()).await?;
        let pid = current.whereis(&name);
        survives(current)?;
        Ok(pid.map(Into::into))
    }

    async fn registered(&mut self) -> Result<Vec<String>> {
        let names = self.retry(Current::registered).await?;
        Ok(texts(self.begin().await?, names))
    }
}

impl groups::Host for Guarded<'_> {
    async fn join(
        &mut self,
        group: String,
        process: types::Pid,
    ) -> Result<Result<(), groups::JoinError>> {
        let current = self.begin_with(group.len()).await?;
        let joined = current.join(&group, process.into());
        survives(current)?;
        Ok(joined.map_err(Into::into))
    }

    async fn leave(&mut self, group: String, process: types::Pid) -> Result<bool> {
        Ok(self
            .begin_with(group.len())
            .await?
            .leave(&group, process.into()))
    }

    async fn members(&mut self, group: String) -> Result<Vec<types::Pid>> {
        let current = self.begin_with(group.len()).await?;
        let members = current.members(&group);
        Ok(pids(current, members))
    }

    async fn which_groups(&mut self) -> Result<Vec<String>> {
        let groups = self.retry(Current::which_groups).await?;
        Ok(texts(self.begin().await?, groups))
    }

    async fn monitor(&mut self, group: String) -> Result<groups::MonitoredGroup> {
        let current = self.begin_with(group.len()).await?;
        let (monitor, members) = current.monitor_group(&group);
        survives(current)?;
        Ok(groups::MonitoredGroup {
            monitor: monitor.into(),
            members: pids(current, members),
        })
    }

    async fn demonitor(&mut self, monitor: types::Reference) -> Result<bool> {
        Ok(self.begin().await?.demonitor_group(monitor.into()))
    }
}

impl timers::Host for Guarded<'_> {
    async fn send_after(
        &mut self,
        delay_ns: u64,
        to: types::Destination,
        envelope: mailbox::Envelope,
        payload: Vec<u8>,
    ) -> Result<types::Reference> {
        let to: process::Destination = to.into();
        let current = self.begin_with(to.bytes()).await?;
        let message = Sends::Message(outgoing(current, envelope, payload)?);
        let timer = current.start_timer(delay_ns, to, message);
        survives(current)?;
        Ok(timer.into())
    }

    async fn start_timer(
        &mut self,
        delay_ns: u64,
        to: types::Destination,
        tag: u32,
    ) -> Result<types::Reference> {
        let to: process::Destination = to.into();
        let current = self.begin_with(to.bytes()).await?;
        let timer = current.start_timer(delay_ns, to, Sends::Signal(tag));
        survives(current)?;
        Ok(timer.into())
    }

    async fn cancel_timer(&mut self, timer: types::Reference) -> Result<Option<u64>> {
        Ok(self.begin().await?.cancel_timer(timer.into()))
    }

    async fn read_timer(&mut self, timer: types::Reference) -> Result<Option<u64>> {
        Ok(self.begin().await?.read_timer(timer.into()))
    }
}

impl spawning::Host for Guarded<'_> {
    async fn spawn(
        &mut self,
        program: Option<String>,
        function: String,
        argument: Vec<u8>,
        options: Vec<spawning::SpawnOption>,
    ) -> Result<Result<types::Pid, spawning::SpawnError>> {
        let named = program.as_ref().map_or(0, String::len) + function.len();
        let handed = options.iter().map(handed_bytes).sum::<usize>();
        let current = self.begin_with(named + handed).await?;
        functions::check_spawn_options(options.len())?;
        let options = options.into_iter().map(SpawnOption::from);
        let program = functions::program(current, program.as_deref());
        let function = program
            .as_ref()
            .ok()
            .and_then(|it| it.runnable.function(&function));
        let argument = argument.into();
        let spawned = functions::spawn(current, program, function, argument, options);
        survives(current)?;
        Ok(spawned.map(Into::into).map_err(Into::into))
    }
}

/// The bytes of a spawn option's list or string.
fn handed_bytes(option: &spawning::SpawnOption) -> usize {
    match option {
        spawning::SpawnOption::Name(text)
        | spawning::SpawnOption::Label(text)
        | spawning::SpawnOption::Directory(text)
        | spawning::SpawnOption::Address(text)
        | spawning::SpawnOption::Program(text) => text.len(),
        _ => 0,
    }
}

impl inspection::Host for Guarded<'_> {
    async fn processes(&mut self) -> Result<Vec<types::Pid>> {
        let current = self.begin().await?;
        let processes = current.shared.processes();
        survives(current)?;
        Ok(pids(current, processes))
    }

    async fn info(&mut self, process: types::Pid) -> Result<Option<inspection::ProcessInfo>> {
        let pid = process.into();
        let info = self.retry(|current| current.info(pid)).await?;
        Ok(info.map(Into::into))
    }

    async fn counters(&mut self) -> Result<inspection::SystemCounters> {
        let counters = self.begin().await?.shared.counters();
        Ok(inspection::SystemCounters {
            processes: counters.processes.into(),
            spawned: counters.spawned,
            crashed: counters.crashed,
            reductions: counters.reductions,
            names: counters.names as u64,
            groups: counters.groups as u64,
            timers: counters.timers as u64,
        })
    }
}

impl debugging::Host for Guarded<'_> {
    async fn suspend(&mut self, process: types::Pid) -> Result<bool> {
        let pid = process.into();
        self.retry(|current| current.suspend(pid)).await
    }

    async fn resume(&mut self, process: types::Pid) -> Result<bool> {
        Ok(self.begin().await?.resume(process.into()))
    }
}
