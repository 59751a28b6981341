//! Processes that begin and end: alone, monitored, linked.

use atoll_guest::{
    Event, EventKinds, ExitReason, Pid, Selector, exit, inspect, receive, receive_event, self_pid,
    send, spawn, spawn_link, spawn_monitor, yield_now,
};

use crate::{Argument, Outcome, measure, numbers};

pub fn spawn_exit(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    let parent = self_pid();
    measure(&argument, || {
        for _ in 0..n {
            spawn(child, parent)?;
            receive::<()>()?;
        }
        Ok(())
    })
}

pub fn spawn_batch(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    measure(&argument, || {
        for _ in 0..n {
            spawn(leaf, ())?;
        }
        spawn(child, self_pid())?;
        receive::<()>()?;
        Ok(())
    })
}

fn child(parent: Pid) {
    send(parent, &());
}

fn leaf(_: ()) {}

pub fn spawn_monitor_seq(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    measure(&argument, || {
        for _ in 0..n {
            let (_, monitor) = spawn_monitor(leaf, ())?;
            await_down(&Selector::Reference(monitor));
        }
        Ok(())
    })
}

pub fn spawn_monitor_batch(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    measure(&argument, || {
        for _ in 0..n {
            spawn_monitor(leaf, ())?;
        }
        for _ in 0..n {
            await_down(&Selector::Kinds(EventKinds::DOWN));
        }
        Ok(())
    })
}

fn await_down(selector: &Selector) {
    match receive_event(selector, None) {
        Some(Event::Down(_)) => {}
        _ => panic!("expected a down-signal"),
    }
}

/// The linked processes are gone when the system's count has dropped by n. Asking each process would add to the measured
/// time.
pub fn link_cascade(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    let (hub, monitor) = spawn_monitor(hub, (self_pid(), n))?;
    receive::<()>()?;
    let rest = inspect::counters().processes - u64::from(n);
    measure(&argument, || {
        send(hub, &());
        await_down(&Selector::Reference(monitor));
        while inspect::counters().processes > rest {
            yield_now();
        }
        Ok(())
    })
}

/// Links n processes to itself, tells the root, waits, and ends with a reason that ends the linked processes, too.
fn hub((root, n): (Pid, u32)) -> Outcome {
    for _ in 0..n {
        spawn_link(crate::idle, ())?;
    }
    send(root, &());
    receive::<()>()?;
    exit(ExitReason::from("boom"))
}
