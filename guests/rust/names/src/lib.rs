//! names: processes that others find by a name, alone or in a group.
//!
//! It shows how a process gets, uses and loses a name, and how to follow the membership of a group.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    ExitReason, Pid, Spawn, call, exit_process, groups, monitor, println, receive, receive_down,
    register, registered, self_pid, send_named, spawn, unregister, whereis,
};

/// The group of the singers.
const CHOIR: &str = "choir";
const LONG: Duration = Duration::from_secs(60);

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let me = self_pid();
    println!("names:");
    register("main", me)?;
    let echo = Spawn::new().name("echo").function(echo, ())?;
    println!("  registered: {}", registered().join(", "));
    println!("  echo is found: {}", whereis("echo") == Some(echo));
    println!("  sent by name: {}", send_named("echo", "hello"));
    println!("  answered: {}", receive::<String>()?.message);
    let answer: String = call("echo", "hello again", LONG)?;
    println!("  called by name: {answer}");
    let (alto, bass) = (spawn(self::echo, ())?, spawn(self::echo, ())?);
    for (name, process) in [("echo", alto), ("other", me), ("", alto)] {
        if let Err(error) = register(name, process) {
            println!("  `{name}`: {error}");
        }
    }
    if let Err(error) = Spawn::new().name("echo").function(self::echo, ()) {
        println!("  {error}");
    }
    println!("  taken away: {}", unregister("main"));
    end(echo);
    println!("  registered: {:?}", registered());
    println!("  sent to nobody: {}", send_named("echo", "are you there?"));

    println!("groups:");
    let choir = groups::monitor(CHOIR);
    println!("  members at first: {}", choir.members.len());
    for (name, singer) in [("alto", alto), ("bass", bass)] {
        groups::join(CHOIR, singer)?;
        print_change(&choir, name, singer);
    }
    println!("  groups: {}", groups::which_groups().join(", "));
    println!("  members: {}", groups::members(CHOIR).len());
    println!("  alto leaves: {}", groups::leave(CHOIR, alto));
    print_change(&choir, "alto", alto);
    println!("  alto leaves: {}", groups::leave(CHOIR, alto));
    end(bass);
    print_change(&choir, "bass", bass);
    println!("  members: {}", groups::members(CHOIR).len());
    println!("  monitor ended: {}", groups::demonitor(choir.monitor));
    match groups::join(CHOIR, bass) {
        Ok(()) => println!("  bass has joined"),
        Err(error) => println!("  {error}"),
    }
    Ok(())
}

/// Sends back what it receives.
fn echo(_: ()) -> Result<(), Box<dyn Error>> {
    loop {
        let text = receive::<String>()?;
        text.reply(&text.message);
    }
}

/// Ends a process, and waits until it has ended.
fn end(process: Pid) {
    let monitor = monitor(process);
    exit_process(process, ExitReason::Shutdown);
    receive_down(monitor, None);
}

fn print_change(group: &groups::MonitoredGroup, name: &str, process: Pid) {
    if let Some(signal) = groups::receive(group.monitor, None) {
        let right = signal.process == process;
        println!("  {name}: {right}: {}", signal.change);
    }
}
