//! The end of a whole system: by a signal of the operating system, or by the end of its first process.

use atoll_tests::{Atoll, Running, Signal, guest, tied_guest};

/// Processes that trap exits. Both report the exit signal and print the reason's case. One then ends, and the other does not.
const TRAPPING: &str = "
  (func (export \"obedient\")
    (call $trap-exits)
    (call $parent (i32.const 240))
    (call $post (i32.const 240) (i32.const 7))
    (call $print-number (call $take-exit))
    (call $print %\"cleaned up\"))
  (func (export \"deaf\")
    (call $trap-exits)
    (call $parent (i32.const 240))
    (call $post (i32.const 240) (i32.const 7))
    (loop $next
      (drop (call $take-exit))
      (call $print %\"asked to end\")
      (br $next)))
  (func (export \"spins\") (loop $for-ever (br $for-ever)))";

/// A main that runs this, reports that it is ready, and waits.
fn waiting(run: &str) -> String {
    tied_guest(&format!(
        "{TRAPPING} (func (export \"run\") {run} (call $print %\"ready\") (drop (call $take-any)))"
    ))
}

/// Starts the program, and returns when it is ready.
#[track_caller]
fn ready(atoll: Atoll) -> Running {
    let mut running = atoll.start();
    running.until_stdout("ready\n");
    running
}

#[test]
fn signals_end_a_system() {
    for signal in [Signal::TERM, Signal::INT] {
        // A process that waits, and one that is busy on every scheduler.
        let busy = "(call $start %\"spins\" (i32.const 272))".repeat(8);
        for run in ["", &busy] {
            let mut running = ready(Atoll::run(waiting(run)));
            running.signal(signal);
            running
                .outcome()
                .stopped_by(signal)
                .stdout("ready\n")
                .stderr("");
        }
    }
}

#[test]
fn nothing_is_lost_that_was_printed_before_a_signal() {
    let run = "(local $count i32)
        (loop $next
          (call $print-number (local.get $count))
          (br_if $next (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 20000))))";
    let mut running = ready(Atoll::run(waiting(run)));
    running.signal(Signal::TERM);
    let lines: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    running
        .outcome()
        .stopped_by(Signal::TERM)
        .stdout(&format!("{lines}ready\n"))
        .stderr("");
}

#[test]
fn processes_that_trap_exits_may_clean_up() {
    // `shutdown` is case 1.
    let start = "(call $start %\"obedient\" (i32.const 272)) (call $take (i32.const 7))";
    let mut running = ready(Atoll::run(waiting(start)));
    running.signal(Signal::TERM);
    running
        .outcome()
        .stopped_by(Signal::TERM)
        .stdout("ready\n1\ncleaned up\n")
        .stderr("");
    // Main itself.
    let main = "(func (export \"run\")
          (call $trap-exits)
          (call $print %\"ready\")
          (call $print-number (call $take-exit)))";
    let mut running = ready(Atoll::run(tied_guest(main)));
    running.signal(Signal::INT);
    running
        .outcome()
        .stopped_by(Signal::INT)
        .stdout("ready\n1\n")
        .stderr("");
}

#[test]
fn children_are_asked_to_end_when_their_parents_have_ended() {
    // Each process reports its number: main first, the last child last.
    let body = "(func (export \"child\")
          (call $trap-exits)
          (call $argument (i32.const 176))
          (i32.store (i32.const 2208) (i32.load (i32.load (i32.const 176))))
          (call $copy-id (i32.add (i32.load (i32.const 176)) (i32.const 8)) (i32.const 2216))
          (if (i32.lt_u (i32.load (i32.const 2208)) (i32.const 5))
            (then (call $child))
            (else (call $post (i32.const 2216) (i32.const 7))))
          (drop (call $take-exit))
          (call $print-number (i32.load (i32.const 2208))))
        (func $child
          (i32.store (i32.const 2304) (i32.add (i32.load (i32.const 2208)) (i32.const 1)))
          (call $copy-id (i32.const 2216) (i32.const 2312))
          (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"child\" (i32.const 2304) (i32.const 24)
            (i32.const 0) (i32.const 0) (i32.const 64)))
        (func (export \"run\")
          (call $trap-exits)
          (call $self (i32.const 2216))
          (call $child)
          (call $take (i32.const 7))
          (call $print %\"ready\")
          (drop (call $take-exit))
          (call $print-number (i32.load (i32.const 2208))))";
    let mut running = ready(Atoll::run(tied_guest(body)));
    running.signal(Signal::TERM);
    running
        .outcome()
        .stopped_by(Signal::TERM)
        .stdout("ready\n0\n1\n2\n3\n4\n5\n")
        .stderr("");
}

#[test]
fn processes_that_do_not_end_in_time_are_killed() {
    let start = "(call $start %\"deaf\" (i32.const 272)) (call $take (i32.const 7))";
    for grace in ["100ms", "0.1s", "0"] {
        let mut running = ready(Atoll::run(waiting(start)).options(["--grace", grace]));
        running.signal(Signal::TERM);
        let outcome = running
            .outcome()
            .stopped_by(Signal::TERM)
            .stderr_has("did not end in time and were killed\n");
        if grace != "0" {
            outcome.stdout("ready\nasked to end\n");
        }
    }
    // The same at the end of main.
    let run = format!("{TRAPPING} (func (export \"run\") {start})");
    Atoll::run(tied_guest(&run))
        .options(["--grace", "100ms"])
        .outcome()
        .code(0)
        .stdout("asked to end\n")
        .stderr("atoll: 1 processes did not end in time and were killed\n");
}

#[test]
fn a_second_signal_kills_at_once() {
    let start = "(call $start %\"deaf\" (i32.const 272)) (call $take (i32.const 7))";
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = ready(Atoll::run(waiting(start)).options(["--grace", "60min"]));
        running.signal(signal);
        running.until_stdout("asked to end\n");
        running.signal(signal);
        running
            .outcome()
            .stopped_by(signal)
            .stdout("ready\nasked to end\n")
            .stderr("atoll: 1 processes did not end in time and were killed\n");
    }
}

#[test]
fn the_end_of_main_sends_shutdown_to_the_remaining_processes() {
    let start = "(call $start %\"obedient\" (i32.const 272)) (call $take (i32.const 7))";
    for (end, code) in [
        ("", 0),
        ("(call $proc_exit (i32.const 3))", 3),
        ("(unreachable)", 134),
    ] {
        let body = format!("{TRAPPING} (func (export \"run\") {start} {end})");
        Atoll::run(tied_guest(&body))
            .outcome()
            .code(code)
            .stdout("1\ncleaned up\n");
    }
}

#[test]
fn a_signal_while_main_has_ended_already() {
    // The processes that got the exit signal may use the rest of the time. The first signal does not shorten it.
    let start = "(call $start %\"deaf\" (i32.const 272)) (call $take (i32.const 7))";
    let body = format!("{TRAPPING} (func (export \"run\") {start})");
    let mut running = Atoll::run(tied_guest(&body))
        .options(["--grace", "60min"])
        .start();
    running.until_stdout("asked to end\n");
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    let outcome = running.outcome();
    // In any order of handling.
    assert!(
        outcome.is_stopped_by(Signal::TERM) || outcome.is_stopped_by(Signal::INT),
        "{outcome}"
    );
    outcome.stderr("atoll: 1 processes did not end in time and were killed\n");
}

#[test]
fn a_table_of_the_busiest() {
    let run = "(call $start %\"spins\" (i32.const 272))
        (call $must (i32.eq (i32.const -1) (call $name %\"the-busy-one\" (i32.const 272))))
        (call $start %\"stays\" (i32.const 288))
        (call $must (i32.eq (i32.const -1) (call $name %\"the-idle-one\" (i32.const 288))))";
    let mut running = ready(Atoll::run(waiting(run)));
    for _ in 0..2 {
        running.signal(Signal::USR1);
        running.until_stderr("the-idle-one");
    }
    running.signal(Signal::TERM);
    let outcome = running.outcome().stopped_by(Signal::TERM).stdout("ready\n");
    let busy = outcome.stderr.find("the-busy-one");
    let idle = outcome.stderr.find("the-idle-one");
    assert!(busy.is_some() && busy < idle, "{outcome}");
    for column in [
        "pid",
        "name",
        "function",
        "status",
        "reductions",
        "memory",
        "mailbox",
    ] {
        assert!(outcome.stderr.contains(column), "no {column}\n{outcome}");
    }
}

#[test]
fn nothing_is_held_at_the_end() {
    let body = "(func (export \"holds\")
          (call $parent (i32.const 256))
          (call $self (i32.const 16))
          (call $watch (i32.const 256) (i32.const 192))
          (call $alias (i32.const 192))
          (call $monitor-group %\"group\" (i32.const 2104))
          (drop (call $enter %\"group\" (i32.const 16)))
          (call $start-timer (i64.const -1) (i32.const 0)
            (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 3) (i32.const 192))
          (i32.store8 (i32.const 2208) (i32.const 0))
          (i32.store8 (i32.const 2232) (i32.const 1))
          (call $make-reference (i32.const 192))
          (call $copy-id (i32.const 192) (i32.const 2240))
          (drop (call $try-start-with %\"stays\" (i32.const 2208) (i32.const 2) (i32.const 272)))
          (call $watch (i32.const 272) (i32.const 192))
          (drop (call $name %\"name\" (i32.const 272)))
          (call $link-to (i32.const 256))
          (call $post (i32.const 256) (i32.const 7))
          ENDS)
        (func (export \"run\")
          (local $count i32)
          (call $trap-exits)
          (loop $again
            (call $start %\"holds\" (i32.const 272))
            (call $watch (i32.const 272) (i32.const 192))
            (call $alias (i32.const 192))
            (call $take (i32.const 7))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50)))))";
    for ends in [
        "(call $stays)",
        "(unreachable)",
        "(call $exit (i32.const 10) %\"why\")",
        "(loop $for-ever (br $for-ever))",
        "",
    ] {
        let outcome = Atoll::run(tied_guest(&body.replace("ENDS", ends)))
            .options(["--stats", "--quiet"])
            .outcome()
            .code(0)
            .stderr_has(", 0 left, ");
        let held = outcome
            .stderr
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("held: "))
            .unwrap_or_else(|| panic!("nothing is said of what is held\n{outcome}"));
        for what in held.split(", ") {
            assert!(what.starts_with("0 "), "{ends}: {what}\n{outcome}");
        }
        assert!(held.split(", ").count() >= 8, "{outcome}");
    }
}

#[test]
fn malformed_lengths_of_time() {
    for text in ["", "soon", "-1s", "1h", "5 m", "inf", "1e400s"] {
        Atoll::run(guest("(func (export \"run\"))"))
            .option(format!("--grace={text}"))
            .outcome()
            .code(2)
            .stdout("")
            .stderr_has("--grace");
    }
    for text in ["0", "5", "1.5s", "250ms", "2min"] {
        Atoll::run(guest("(func (export \"run\"))"))
            .option(format!("--grace={text}"))
            .outcome()
            .code(0)
            .stderr("");
    }
}
