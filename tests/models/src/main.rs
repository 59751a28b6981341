//! Models of the host's lock-free protocols: loom tries the orders in which threads can take their steps. `cargo xtask models`
//! runs them.
//!
//! A model is a few threads that use a protocol, and a claim about the end. Those of the sleeping schedulers and of the slots
//! run the host's own files, compiled here with a `crate::sync` that is loom's. Those of timers and of processes are written
//! down step by step, because these steps lie in files that need the whole host; they name the functions that they mirror. A
//! change of such a function has to be repeated in its model by hand. Most models are tried in all orders; the largest ones with
//! two or three interruptions of a thread.
//!
//! No model covers crossbeam's queues and parkers, which are a library's; stealing, which only takes from these queues; numbers
//! that guide and decide nothing; or loans, whose steps are all under one lock.
//!
//! To show that it would notice a fault, each model is run again with flaws: an ordering made weaker, a step left out. It must
//! fail with each of them. Words on the command line choose the models whose names contain one of them.

#[cfg(loom)]
mod flaws;
#[cfg(loom)]
mod process;
#[cfg(loom)]
mod sleeping;
#[cfg(loom)]
mod slots;
#[cfg(loom)]
mod sync;
#[cfg(loom)]
mod timers;

/// The host's files.
#[cfg(loom)]
#[path = "../../../host/src/engine/slots/awake.rs"]
mod awake;
#[cfg(loom)]
#[path = "../../../host/src/engine/slots/backlog.rs"]
mod backlog;
#[cfg(loom)]
#[path = "../../../host/src/engine/slots/presence.rs"]
mod presence;
#[cfg(loom)]
#[path = "../../../host/src/scheduler/sleepers.rs"]
mod sleepers;

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    eprintln!("error: built without loom; run `cargo xtask models`");
    std::process::ExitCode::FAILURE
}

#[cfg(loom)]
fn main() -> std::io::Result<std::process::ExitCode> {
    use std::process::ExitCode;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let models = [
        sleeping::MODELS,
        timers::MODELS,
        slots::MODELS,
        process::MODELS,
    ]
    .concat();
    if let [option, name, flaw] = &words[..]
        && option == flaws::FLAWED
    {
        let found = models.iter().find(|model| model.name == name);
        found.expect("the parent knows the names").run_flawed(flaw);
        return Ok(ExitCode::SUCCESS);
    }
    let is_chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let (mut held, mut chosen) = (0, 0);
    for model in models.iter().filter(|model| is_chosen(model.name)) {
        chosen += 1;
        held += u32::from(model.holds()?);
    }
    println!("{held} of {chosen} models hold, and notice their flaws");
    Ok(match held == chosen && chosen > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
