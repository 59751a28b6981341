//! Guests that keep all kinds of state while they wait. In this crate's tests every process that waits is hibernated at
//! once, its slot is made inaccessible, and its checksum is compared when it wakes. So every other test in which a
//! process waits tests packing, too.

use crate::{
    Config, Event, ExitReason, Hibernation, HostMailbox, Outgoing, Pid, Program, Selector, Spawn,
    System, Watch,
};
use std::time::Duration;

/// Each function waits for messages while it keeps something, and traps if it does not find it again. A message with
/// tag 9 ends it; it answers every other with the number of messages so far.
const SLEEPERS: &str = r#"(module
    (import "atoll-rt:process/mailbox@0.2.0" "send" (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
    (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
    (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
    (memory (export "memory") 1 1024)
    (global $seed (mut i64) (i64.const 0))
    (table $table 1 10 funcref)
    (global $count (mut i32) (i32.const 0))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
    ;; Waits for one message; true if that is not the end.
    (func $next (result i32)
      (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 192))
      (if (i32.eq (i32.load (i32.const 224)) (i32.const 9)) (then (return (i32.const 0))))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (call $send (i64.load (i32.const 208)) (i64.load (i32.const 216)) (global.get $count)
        (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (i32.const 1))
    (func $serve (loop $again (br_if $again (call $next))))
    (func (export "run") (call $serve))
    ;; Keeps a frame with a local of its own at every depth.
    (func $dive (param $depth i32) (local $kept i64)
      (local.set $kept (i64.mul (i64.extend_i32_u (local.get $depth)) (i64.const 0x9e3779b97f4a7c15)))
      (if (local.get $depth)
        (then (call $dive (i32.sub (local.get $depth) (i32.const 1))))
        (else (call $serve)))
      (call $must (i64.eq (local.get $kept)
        (i64.mul (i64.extend_i32_u (local.get $depth)) (i64.const 0x9e3779b97f4a7c15)))))
    (func (export "shallow") (call $dive (i32.const 3)))
    (func (export "deep") (call $dive (i32.const 900)))
    ;; Keeps numbers that no two words have alike, from $from on, so many.
    (func $word (param $at i32) (result i64) (local $word i64)
      (local.set $word
        (i64.mul (i64.add (i64.extend_i32_u (local.get $at)) (global.get $seed)) (i64.const 0xd1342543de82ef95)))
      ;; So that the words of two processes do not all differ by as much.
      (i64.mul (i64.xor (local.get $word) (i64.shr_u (local.get $word) (i64.const 31)))
        (i64.const 0xd1342543de82ef95)))
    (func $keep (param $from i32) (param $to i32) (local $at i32)
      (local.set $at (local.get $from))
      (loop $next
        (i64.store (local.get $at) (call $word (local.get $at)))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $to))))
      (call $serve)
      (local.set $at (local.get $from))
      (loop $next
        (call $must (i64.eq (i64.load (local.get $at)) (call $word (local.get $at))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (local.get $to)))))
    (func (export "memory-of-its-own") (call $keep (i32.const 2048) (i32.const 40000)))
    ;; The same, but each process's are its own.
    (func (export "noise")
      (call $self (i32.const 128))
      (global.set $seed (i64.load (i32.const 136)))
      (call $keep (i32.const 2048) (i32.const 40000)))
    ;; Two pages more: within the home slot or beyond, whatever there is.
    (func (export "grown") (drop (memory.grow (i32.const 2))) (call $keep (i32.const 150000) (i32.const 190000)))
    (func (export "moved") (drop (memory.grow (i32.const 200))) (call $keep (i32.const 13000000) (i32.const 13100000)))
    (func (export "much") (drop (memory.grow (i32.const 100))) (call $keep (i32.const 100000) (i32.const 2000000)))
    (func (export "huge") (drop (memory.grow (i32.const 400))) (call $keep (i32.const 20000000) (i32.const 20000080)))
    (elem declare func $serve)
    (func (export "table")
      (drop (table.grow $table (ref.func $serve) (i32.const 5)))
      (call_indirect $table (i32.const 3))
      (call $must (i32.eq (table.size $table) (i32.const 6)))))"#;

/// More than the slots whose pages are given back together.
const COUNT: u64 = 50;

struct Sleepers {
    system: System,
    program: Program,
    mailbox: HostMailbox,
}

impl Sleepers {
    fn new(config: Config) -> Sleepers {
        let system = System::new(Config {
            cache: false,
            ..config
        });
        let system = system.expect("the system starts");
        let program = system.load("sleepers", SLEEPERS.as_bytes());
        let mailbox = system.open_mailbox().expect("there is room");
        Sleepers {
            program: program.expect("the module loads"),
            system,
            mailbox,
        }
    }

    fn spawn(&self, function: &str) -> (Pid, Watch) {
        let spawn = Spawn::new(&self.program).function(function);
        self.system.spawn_watched(spawn).expect("it is spawned")
    }

    fn hibernation(&self) -> Hibernation {
        self.system.counters().hibernation
    }

    /// Wakes a process, which answers with the number of its wakings.
    #[track_caller]
    fn wake(&mut self, pid: Pid, times: u32) {
        self.mailbox.send(pid, Outgoing::new(1, &[]));
        let answer = self.mailbox.receive_blocking(Selector::Any, None);
        let Some(Event::Message(message)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(message.tag, times);
    }

    /// Ends a process with the message that makes it return.
    #[track_caller]
    fn end(&self, pid: Pid, watch: Watch) {
        self.mailbox.send(pid, Outgoing::new(9, &[]));
        assert_eq!(watch.wait(), ExitReason::Normal);
    }

    /// Waits until so many are hibernated.
    fn wait_until_hibernated(&self, count: u64) {
        while self.hibernation().packed - self.hibernation().unpacked != count {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_process_finds_the_state_it_kept() {
    finds_again_what_it_keeps(Config::default());
}

#[test]
fn the_same_when_pages_are_given_back_together_later() {
    finds_again_what_it_keeps(Config {
        poison: false,
        ..Config::default()
    });
}

#[test]
fn the_same_without_the_allocator() {
    let config = Config::default();
    let sleepers = crate::engine::arena::as_if_not_installed(|| Sleepers::new(config));
    assert!(!sleepers.hibernation().is_deep);
    find_again_what_they_keep(sleepers);
}

fn finds_again_what_it_keeps(config: Config) {
    let sleepers = Sleepers::new(config);
    assert!(sleepers.hibernation().is_deep);
    find_again_what_they_keep(sleepers);
}

fn find_again_what_they_keep(mut sleepers: Sleepers) {
    for function in [
        "run",
        "shallow",
        "deep",
        "memory-of-its-own",
        "grown",
        "moved",
        "much",
        "huge",
        "table",
        "noise",
    ] {
        let before = sleepers.hibernation();
        // Several at once, so the first are packed before the program has a template.
        let pids: Vec<_> = (0..COUNT).map(|_| sleepers.spawn(function)).collect();
        for times in 1..=4 {
            sleepers.wait_until_hibernated(COUNT);
            for (pid, _) in &pids {
                sleepers.wake(*pid, times);
            }
        }
        sleepers.wait_until_hibernated(COUNT);
        for (pid, watch) in pids {
            sleepers.end(pid, watch);
        }
        let after = sleepers.hibernation();
        assert!(after.packed >= before.packed + 5 * COUNT, "{function}");
        let keeps_memory = matches!(function, "noise" | "much" | "huge");
        // Some of the other functions' processes keep their memory, too, until there is a template for them.
        let in_part = after.in_part - before.in_part;
        let are_most = 2 * in_part > after.packed - before.packed;
        assert_eq!(are_most, keeps_memory, "{function}: {in_part}");
        assert_eq!(
            (after.packed, after.bytes),
            (after.unpacked, 0),
            "{function}"
        );
    }
    assert_eq!(sleepers.system.holdings().slots, 0);
}

#[test]
fn siblings_take_some_hundred_bytes() {
    let sleepers = Sleepers::new(Config::default());
    let count = 1000;
    let pids: Vec<_> = (0..count).map(|_| sleepers.spawn("run")).collect();
    sleepers.wait_until_hibernated(count);
    let each = sleepers.hibernation().bytes / count;
    assert!(each < 300, "{each} bytes");
    for (pid, watch) in pids {
        sleepers.system.kill(pid);
        assert_eq!(watch.wait(), ExitReason::Killed);
    }
    assert_eq!(sleepers.hibernation().bytes, 0);
}

#[test]
fn only_a_process_that_waits_long_enough_is_hibernated() {
    let mut sleepers = Sleepers::new(Config {
        hibernate_after: Some(Duration::from_millis(1)),
        ..Config::default()
    });
    let (pid, watch) = sleepers.spawn("memory-of-its-own");
    for times in 1..=20 {
        sleepers.wait_until_hibernated(1);
        sleepers.wake(pid, times);
    }
    sleepers.end(pid, watch);

    let mut awake = Sleepers::new(Config {
        hibernate_after: None,
        ..Config::default()
    });
    let (pid, watch) = awake.spawn("run");
    awake.wake(pid, 1);
    awake.end(pid, watch);
    assert_eq!(awake.hibernation().packed, 0);
}

#[test]
fn a_system_ends_with_hibernated_processes_in_it() {
    let sleepers = Sleepers::new(Config::default());
    let watches: Vec<_> = (0..100).map(|_| sleepers.spawn("deep").1).collect();
    sleepers.wait_until_hibernated(100);
    let slots = sleepers.system.slots();
    let Sleepers {
        system,
        program,
        mailbox,
    } = sleepers;
    system.shutdown();
    for watch in watches {
        assert_eq!(watch.wait(), ExitReason::Killed);
    }
    drop((system, program, mailbox));
    assert!(slots.upgrade().is_none());
}
