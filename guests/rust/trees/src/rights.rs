//! The rights.

use crate::{end, say, spawned};
use atoll_guest::{
    Delivery, ExitReason, Pid, Right, Spawn, call, exit_process, groups, is_alive, link,
    make_reference, println, receive, register, registered, reply_to, self_pid, send, spawn,
    trap_exit, try_send, unregister, whereis,
};
use std::error::Error;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

pub fn show() -> Result<(), Box<dyn Error>> {
    println!("interfaces:");
    interfaces();
    println!("strangers:");
    strangers()?;
    println!("names:");
    names()?;
    println!("programs:");
    programs()
}

fn nothing((): ()) {}

/// This program imports the interfaces, so it can't be spawned without the rights to them.
fn interfaces() {
    for (name, right) in [
        ("names", Right::Names),
        ("signals", Right::Signals),
        ("spawning", Right::Spawning),
        ("files", Right::Files),
        ("network", Right::Network),
    ] {
        let child = Spawn::new().without(right).function(nothing, ());
        say(name, spawned(&child));
    }
    let address = Spawn::new().address("here").function(nothing, ());
    say("a wrong address is refused", address.is_err());
}

fn strangers() -> Result<(), Box<dyn Error>> {
    register("trees", self_pid())?;
    let ended = make_reference();
    let stranger = Spawn::new().without(Right::Strangers).monitor(ended);
    let stranger = stranger.function(meddle, self_pid())?;
    for what in [
        "kills the parent",
        "registers the parent",
        "takes its name",
        "makes it join a group",
        "links with it",
        "ends its own child",
        "ends the tree around",
        "sends it a message",
    ] {
        say(what, receive::<String>()?.message);
    }
    say("asks it", call::<u32>(stranger, &7_u32, LONG)?);
    say("its end", end(ended));
    say(
        "the parent has its name",
        whereis("trees") == Some(self_pid()),
    );
    unregister("trees");
    Ok(())
}

/// Tries its power over its parent, and tells what came of it.
fn meddle(parent: Pid) -> Result<(), Box<dyn Error>> {
    let tell = |found: &str| send(parent, &found.to_owned());
    exit_process(parent, ExitReason::Kill);
    tell(if is_alive(parent) { "no" } else { "yes" });
    let registered = register("meddler", parent);
    tell(&registered.map_or_else(|error| error.to_string(), |()| "yes".to_owned()));
    tell(if unregister("trees") { "yes" } else { "no" });
    let joined = groups::join("meddlers", parent);
    tell(&joined.map_or_else(|error| error.to_string(), |()| "yes".to_owned()));
    trap_exit(true);
    link(parent);
    let signal = atoll_guest::receive_exit(Some(LONG));
    tell(&signal.map_or("no signal".to_owned(), |signal| signal.reason.to_string()));
    let child = spawn(wait, ())?;
    exit_process(child, ExitReason::Kill);
    tell(if is_alive(child) { "no" } else { "yes" });
    tell(if atoll_guest::kill_tree(parent) {
        "yes"
    } else {
        "no"
    });
    let sent = try_send(parent, &"a message".to_owned());
    if sent != Delivery::Delivered {
        tell("no");
    }
    let request = receive::<u32>()?;
    if let Some(reference) = request.reference {
        reply_to(request.sender, reference, &(request.message + 1));
    }
    Ok(())
}

fn wait((): ()) {
    let _ = receive::<()>();
}

fn names() -> Result<(), Box<dyn Error>> {
    register("boss", self_pid())?;
    groups::join("bosses", self_pid())?;
    let ended = make_reference();
    Spawn::new()
        .own_names()
        .monitor(ended)
        .function(other_boss, self_pid())?;
    say("it sees the names", receive::<String>()?.message);
    say("it sees the groups", receive::<String>()?.message);
    say("it is", receive::<String>()?.message);
    say(
        "for the parent the boss is the parent",
        whereis("boss") == Some(self_pid()),
    );
    say("and the only one", groups::members("bosses").len());
    say("its end", end(ended));
    let named = Spawn::new().own_names().name("boss").function(nothing, ());
    say("another one with the name", spawned(&named));
    let taken = Spawn::new().name("boss").function(nothing, ());
    say("one without names of its own", spawned(&taken));
    Ok(())
}

fn other_boss(parent: Pid) -> Result<(), Box<dyn Error>> {
    send(parent, &format!("{:?}", registered()));
    send(parent, &format!("{:?}", groups::which_groups()));
    register("boss", self_pid())?;
    groups::join("bosses", self_pid())?;
    let is_boss = whereis("boss") == Some(self_pid()) && groups::members("bosses").len() == 1;
    let parent_too = register("parent", parent);
    send(
        parent,
        &format!("the boss: {is_boss}, the parent: {parent_too:?}"),
    );
    Ok(())
}

fn programs() -> Result<(), Box<dyn Error>> {
    let ended = make_reference();
    let options = Spawn::new().may_spawn("hello").monitor(ended);
    options.function(spawn_programs, self_pid())?;
    for program in ["hello", "counter", "nobody", "its own"] {
        say(program, receive::<String>()?.message);
    }
    end(ended);
    Ok(())
}

fn spawn_programs(parent: Pid) {
    for program in ["hello", "counter", "nobody"] {
        let child = Spawn::new().program(program).named_bytes("", &[]);
        send(parent, &spawned(&child));
    }
    send(parent, &spawned(&spawn(nothing, ())));
}
