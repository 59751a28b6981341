//! The limits.

use crate::{end, say, spawned};
use atoll_guest::inspect::{TreeInfo, info};
use atoll_guest::{
    CallError, Delivery, ExitReason, Overflow, Pid, Reference, Spawn, call, is_alive, kill_tree,
    make_reference, monitor, println, receive, receive_tagged, receive_timeout, self_pid, send,
    send_tagged, spawn, try_send, yield_now,
};
use std::error::Error;
use std::time::Duration;

const PAGE: u64 = 64 << 10;
/// The tag of the message that lets a process go on.
const GO: u32 = 1000;

pub fn show() -> Result<(), Box<dyn Error>> {
    println!("memory:");
    memory()?;
    println!("processes:");
    processes()?;
    println!("reductions:");
    reductions()?;
    println!("rate:");
    rate()?;
    println!("mailbox:");
    mailbox()?;
    println!("output:");
    output()?;
    println!("ends:");
    ends()
}

/// Spawns a tree, and its monitor.
fn monitored(options: Spawn) -> (Spawn, Reference) {
    let monitor = make_reference();
    (options.monitor(monitor), monitor)
}

fn tree(pid: Pid) -> Option<TreeInfo> {
    info(pid)?.tree
}

fn memory() -> Result<(), Box<dyn Error>> {
    let (options, first) = monitored(Spawn::new().max_memory(64 * PAGE));
    options.function(grow, (self_pid(), 100))?;
    say(
        "one process of 64 pages grows by",
        receive::<u32>()?.message,
    );
    end(first);
    // Three processes share what is left of a tree's memory.
    let (options, root) = monitored(Spawn::new().max_tree_memory(200 * PAGE));
    let root_pid = options.function(grow_together, self_pid())?;
    let mut grown: Vec<u32> = Vec::new();
    for _ in 0..3 {
        grown.push(receive()?.message);
    }
    // Until now they have held their memory.
    kill_tree(root_pid);
    end(root);
    let sum: u32 = grown.iter().sum();
    say(
        "three processes of a tree grow by less than its memory",
        sum < 200,
    );
    say("and by most of it", sum > 100);
    Ok(())
}

/// Grows the memory until that fails, or so many times. Tells how many pages it got.
fn grow((client, most): (Pid, u32)) {
    send(client, &grow_pages(most));
}

fn grow_pages(most: u32) -> u32 {
    (0..most).take_while(|_| grow_page()).count() as u32
}

#[cfg(target_family = "wasm")]
fn grow_page() -> bool {
    core::arch::wasm32::memory_grow::<0>(1) != usize::MAX
}

#[cfg(not(target_family = "wasm"))]
fn grow_page() -> bool {
    false
}

fn grow_together(client: Pid) -> Result<(), Box<dyn Error>> {
    spawn(grow_and_wait, client)?;
    spawn(grow_and_wait, client)?;
    grow_and_wait(client);
    Ok(())
}

fn grow_and_wait(client: Pid) {
    send(client, &grow_pages(150));
    idle(());
}

fn processes() -> Result<(), Box<dyn Error>> {
    let (options, root) = monitored(Spawn::new().max_processes(4));
    options.function(multiply, self_pid())?;
    say("a tree of four spawns", receive::<u32>()?.message);
    say("then", receive::<String>()?.message);
    say("after one has ended", receive::<String>()?.message);
    end(root);
    say("outside of it", spawned(&spawn(idle, ())));
    Ok(())
}

fn multiply(client: Pid) -> Result<(), Box<dyn Error>> {
    let mut children = Vec::new();
    let refused = loop {
        match spawn(idle, ()) {
            Ok(child) => children.push(child),
            Err(error) => break error,
        }
    };
    send(client, &(children.len() as u32));
    send(client, &refused.to_string());
    if let Some(child) = children.pop() {
        let ended = monitor(child);
        atoll_guest::kill(child);
        end(ended);
        // The place is free when the teardown is over, which is soon after others have been told.
        let again = loop {
            match spawn(idle, ()) {
                Err(atoll_guest::SpawnError::TooManyProcesses) => yield_now(),
                other => break other,
            }
        };
        send(client, &spawned(&again));
        children.extend(again);
    }
    children.into_iter().for_each(atoll_guest::kill);
    Ok(())
}

fn idle((): ()) {
    let _ = receive_tagged::<()>(GO);
}

fn reductions() -> Result<(), Box<dyn Error>> {
    let (options, spinner) = monitored(Spawn::new().max_reductions(100_000));
    options.function(spin, ())?;
    say("a tree that computes for ever", end(spinner));
    let (options, root) = monitored(Spawn::new().max_reductions(200_000));
    let root_pid = options.function(spin_through_another, ())?;
    say("its root, when a child computes for ever", end(root));
    say("is it alive", is_alive(root_pid));
    Ok(())
}

fn spin((): ()) {
    loop {
        std::hint::black_box(());
    }
}

fn spin_through_another((): ()) {
    if let Ok(child) = spawn(spin, ()) {
        // The end of the child wakes this process, which has no reductions left for its turn.
        atoll_guest::receive_down(monitor(child), None);
    }
}

/// The reductions of a process so far.
fn used(pid: Pid) -> u64 {
    info(pid).map_or(0, |info| info.reductions)
}

fn rate() -> Result<(), Box<dyn Error>> {
    // Both want all of a core; one may have a twentieth.
    let rated = Spawn::new().max_rate(50).function(spin, ())?;
    let free = spawn(spin, ())?;
    let before = (used(rated), used(free));
    atoll_guest::sleep(Duration::from_millis(500));
    let after = (used(rated), used(free));
    let (rated_used, free_used) = (after.0 - before.0, after.1 - before.1);
    say("a process with a rate goes on", rated_used > 0);
    say(
        "and uses less than a third of another",
        rated_used * 3 < free_used,
    );
    say(
        "its tree has a rate of",
        tree(rated).and_then(|tree| tree.rate).unwrap_or(0),
    );
    say("is it there", kill_tree(rated));
    // A crowd with a rate takes no more than one process with it.
    let crowd = Spawn::new().max_rate(50).function(crowd, ())?;
    atoll_guest::sleep(Duration::from_millis(50));
    let before = (tree_used(crowd), used(free));
    atoll_guest::sleep(Duration::from_millis(500));
    let (crowd_used, free_used) = (tree_used(crowd) - before.0, used(free) - before.1);
    say("a crowd with a rate goes on", crowd_used > 0);
    say(
        "and uses less than a third of another",
        crowd_used * 3 < free_used,
    );
    say("is it there", kill_tree(crowd));
    atoll_guest::kill(free);
    Ok(())
}

fn tree_used(root: Pid) -> u64 {
    tree(root).map_or(0, |tree| tree.reductions.used)
}

fn crowd((): ()) -> Result<(), Box<dyn Error>> {
    for _ in 0..200 {
        spawn(spin, ())?;
    }
    spin(());
    Ok(())
}

fn mailbox() -> Result<(), Box<dyn Error>> {
    for (name, overflow) in [
        ("reject", Overflow::Reject),
        ("drop-newest", Overflow::DropNewest),
        ("drop-oldest", Overflow::DropOldest),
    ] {
        let (options, root) = monitored(Spawn::new().max_messages(3).on_full_mailbox(overflow));
        let keeper = options.function(keep, self_pid())?;
        receive::<()>()?;
        let sent: Vec<_> = (0..5_u32).map(|n| delivery(try_send(keeper, &n))).collect();
        say(name, sent.join(" "));
        let asked = call::<u32>(keeper, &9_u32, Duration::from_millis(1));
        let full = matches!(asked, Err(CallError::Full));
        say("  a call finds it full", full);
        let dropped = info(keeper).map_or(0, |info| info.mailbox_dropped);
        say("  dropped", dropped);
        // A signal has room: the link's, by which the keeper learns to hand over.
        atoll_guest::exit_process(keeper, ExitReason::Shutdown);
        let kept = receive::<Vec<u32>>()?.message;
        let kept: Vec<_> = kept.iter().map(u32::to_string).collect();
        say("  kept", kept.join(" "));
        say("  its end", end(root));
    }
    let (options, root) = monitored(Spawn::new().max_messages(3));
    let keeper = options.function(keep, self_pid())?;
    receive::<()>()?;
    for n in 0..5_u32 {
        send(keeper, &n);
    }
    say("end", end(root));
    say("afterwards", delivery(try_send(keeper, &1_u32)));
    // The bytes of a mailbox count as the tree's memory.
    let limits = Spawn::new()
        .max_tree_memory(40 * PAGE)
        .on_full_mailbox(Overflow::Reject);
    let keeper = limits.function(keep, self_pid())?;
    receive::<()>()?;
    let large = vec![7_u8; PAGE as usize];
    let sent = (0..100)
        .take_while(|_| try_send(keeper, &large) == Delivery::Delivered)
        .count();
    say(
        "a mailbox is bounded by its tree's memory",
        (1..40).contains(&sent),
    );
    say("is it there", kill_tree(keeper));
    Ok(())
}

fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Delivered => "delivered",
        Delivery::Full => "full",
        Delivery::Noproc => "noproc",
    }
}

/// Keeps its messages in the mailbox until an exit signal comes.
fn keep(client: Pid) -> Result<(), Box<dyn Error>> {
    atoll_guest::trap_exit(true);
    send(client, &());
    atoll_guest::receive_exit(None);
    let mut kept = Vec::new();
    while let Some(number) = receive_timeout::<u32>(Duration::ZERO)? {
        kept.push(number.message);
    }
    send(client, &kept);
    Ok(())
}

fn output() -> Result<(), Box<dyn Error>> {
    let (options, printer) = monitored(Spawn::new().max_output(30));
    options.function(print, ())?;
    let ended = end(printer);
    say("a printer with 30 bytes", ended);
    Ok(())
}

fn print((): ()) {
    for _ in 0..10 {
        println!("  ten bytes");
    }
}

fn ends() -> Result<(), Box<dyn Error>> {
    let (options, root_end) = monitored(Spawn::new().tree());
    let root = options.function(ancestor, self_pid())?;
    let descendants: Vec<Pid> = receive()?.message;
    say("the root of a tree", end(root_end));
    let ends: Vec<_> = descendants.iter().map(|&pid| monitor(pid)).collect();
    say(
        "its descendants are alive",
        descendants.iter().all(|&pid| is_alive(pid)),
    );
    say("the tree is ended", kill_tree(root));
    for descendant in ends {
        say("a descendant", end(descendant));
    }
    say("once more", kill_tree(descendants[0]));
    let plain = spawn(idle, ())?;
    say("a process that is no root", kill_tree(plain));
    send_tagged(plain, GO, &());
    // A process may end its own tree, and itself with it.
    let (options, own) = monitored(Spawn::new().tree());
    options.function(end_own_tree, ())?;
    say("a process that ends its own tree", end(own));
    let error = nest(0);
    say("trees within one another", error);
    Ok(())
}

fn ancestor(client: Pid) -> Result<(), Box<dyn Error>> {
    let child = spawn(parent, self_pid())?;
    let grandchild: Pid = receive()?.message;
    send(client, &vec![child, grandchild]);
    Ok(())
}

fn parent(client: Pid) -> Result<(), Box<dyn Error>> {
    let child = spawn(idle, ())?;
    send(client, &child);
    idle(());
    Ok(())
}

fn end_own_tree((): ()) {
    kill_tree(self_pid());
    println!("  it goes on, although it has ended");
}

/// Spawns trees within one another until that fails, and returns the error.
fn nest(depth: u32) -> String {
    match Spawn::new()
        .tree()
        .function(nest_below, (self_pid(), depth + 1))
    {
        Ok(_) => receive::<String>().map_or("nothing".to_owned(), |answer| answer.message),
        Err(error) => format!("{depth}, then: {error}"),
    }
}

fn nest_below((client, depth): (Pid, u32)) {
    send(client, &nest(depth));
}
