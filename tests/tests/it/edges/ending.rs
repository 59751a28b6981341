//! The end of the program by signals: with a reader that has stopped, with signals that were ignored, and before the program
//! runs.

use super::{granting, guest, temporary_folder};
use atoll_tests::{Atoll, Fifo, Running, Signal, full_pipe};
use std::io::{self, Write as _};

/// Starts a main with this body, and with a full standard output that has no active reader. Sends these signals: the first
/// when main has opened the FIFO `ready`, and each other one when it has opened `again`.
#[track_caller]
fn check_stalled(run: &str, grace: &str, signals: &[Signal]) {
    let folder = temporary_folder();
    let ready = Fifo::new(folder.path().join("ready"));
    let again = Fifo::new(folder.path().join("again"));
    let (reader, writer) = full_pipe();
    let body = format!(
        "(func $tell (param $path i32) (param $bytes i32)
           (call $must (i32.eqz
             (call $open (local.get $path) (local.get $bytes) (i32.const 0) (i64.const 64)))))
         (func (export \"run\") {run})"
    );
    let mut running = granting(Atoll::run(guest(&body)), folder.path())
        .options(["--grace", grace])
        .stdout_to(writer)
        .start();
    ready.until_written();
    for (index, signal) in signals.iter().enumerate() {
        if index > 0 {
            again.until_written();
        }
        running.signal(*signal);
    }
    // Atoll must not die by the signal, because that would not report the lost output.
    let code = 128 + signals[0].as_raw();
    running.outcome().code(code).stderr_has("which is lost");
    drop(reader);
}

/// A child writes for ever, and main waits.
const FLOODED: &str = "(call $start %\"flood\" (i32.const 256))
    (call $tell %\"ready\")
    (drop (call $take-any))";

#[test]
fn a_reader_that_has_stopped_does_not_hold_up_sigterm() {
    check_stalled(FLOODED, "100ms", &[Signal::TERM]);
}

#[test]
fn a_reader_that_has_stopped_does_not_hold_up_sigint() {
    check_stalled(FLOODED, "100ms", &[Signal::INT]);
}

#[test]
fn a_second_sigint_waits_for_nothing() {
    // Main gets the exit signal, reports it, and does not end.
    let run = "(call $trap-exits)
        (call $start %\"flood\" (i32.const 256))
        (call $tell %\"ready\")
        (drop (call $take-exit))
        (call $tell %\"again\")
        (loop $next (drop (call $take-any)) (br $next))";
    check_stalled(run, "60min", &[Signal::INT, Signal::INT]);
}

#[test]
fn a_program_that_has_ended_and_whose_output_waits_can_be_stopped() {
    let run = "(call $must (i32.eqz (call $try-print (i32.const 1) %\"a result\")))
        (call $tell %\"ready\")";
    for signal in [Signal::TERM, Signal::INT] {
        check_stalled(run, "100ms", &[signal]);
    }
}

#[test]
fn a_flooding_main_can_be_stopped() {
    let run = "(call $must (i32.eqz (call $try-print (i32.const 1) %\"a result\")))
        (call $tell %\"ready\")
        (call $flood)";
    check_stalled(run, "100ms", &[Signal::TERM]);
}

/// A main that waits for a line of standard input and then goes on.
const GOES_ON: &str = "(func (export \"run\")
      (call $print %\"ready\")
      (call $must (i32.eqz (call $read-from (i32.const 0) (i32.const 1024) (i32.const 100))))
      (call $print %\"goes on\"))";

/// A signal that was ignored when the program started stays ignored.
#[track_caller]
fn check_ignored(name: &str, signal: Signal) {
    let (reader, mut writer) = io::pipe().expect("a pipe can be made");
    let mut running = Atoll::run(guest(GOES_ON))
        .after(format!("trap '' {name}"))
        .stdin_from(reader)
        .start();
    running.until_stdout("ready\n");
    running.signal(signal);
    // Atoll handles signals in the order of their numbers. So when the table is printed, it has handled the other signal.
    running.signal(Signal::USR1);
    running.until_stderr("reductions");
    writer.write_all(b"a line\n").expect("somebody reads");
    running.outcome().code(0).stdout("ready\ngoes on\n");
}

#[test]
fn sigint_that_is_ignored_from_outside_stays_ignored() {
    check_ignored("INT", Signal::INT);
}

#[test]
fn sighup_that_is_ignored_from_outside_stays_ignored() {
    check_ignored("HUP", Signal::HUP);
}

/// A main that reports that it is ready, and waits.
fn waiting() -> Running {
    let body = "(func (export \"run\") (call $print %\"ready\") (drop (call $take-any)))";
    let mut running = Atoll::run(guest(body)).start();
    running.until_stdout("ready\n");
    running
}

#[test]
fn a_program_that_sigint_ends_dies_by_it() {
    // Otherwise the loop of a shell around the program would go on.
    let mut running = waiting();
    running.signal(Signal::INT);
    running
        .outcome()
        .died_by(Signal::INT)
        .stdout("ready\n")
        .stderr("");
}

#[test]
fn a_program_that_sigterm_ends_says_so_by_its_exit_code() {
    let mut running = waiting();
    running.signal(Signal::TERM);
    running.outcome().code(143).stdout("ready\n").stderr("");
}

#[test]
fn sigusr1_while_programs_are_loaded_ends_nothing() {
    // Loading waits for the text of the program.
    let folder = temporary_folder();
    let file = Fifo::new(folder.path().join("main.wat"));
    let mut running = Atoll::run_file(file.path()).start();
    let mut text = file.until_read();
    running.signal(Signal::USR1);
    // If the signal has ended the program, no reader is left. The outcome shows that.
    let _ =
        text.write_all(guest("(func (export \"run\") (call $proc_exit (i32.const 7)))").as_bytes());
    drop(text);
    running.outcome().code(7).stdout("");
}
