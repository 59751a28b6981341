//! A process with a pending exit has no more effect that others can see: it prints nothing and touches no file.

use super::{granting, guest, guest_with_pages, temporary_folder};
use crate::wrap::Component;
use atoll_tests::{Atoll, TIE_FUNCTIONS, TIES};
use std::fs;

/// A child causes its own end, and then prints a line, prints half of another, and makes a folder. Main waits for its end.
/// None of these effects may show.
#[track_caller]
fn check_own_end(is_told: &str) {
    let body = format!(
        "(func (export \"gone\"))
         (func (export \"victim\")
           (call $self (i32.const 2208))
           {is_told}
           (drop (call $try-print (i32.const 1) %\"printed\"))
           (drop (call $write %\"half a line\"))
           (drop (call $path_create_directory (i32.const 3) %\"made\"))
           (drop (call $try-print (i32.const 1) %\"printed\")))
         (func (export \"run\")
           (call $start %\"victim\" (i32.const 272))
           (call $watch (i32.const 272) (i32.const 192))
           (drop (call $take-down-of (i32.const 192)))
           (call $print %\"down\"))"
    );
    for schedulers in ["1", "2"] {
        let folder = temporary_folder();
        granting(Atoll::run(guest(&body)), folder.path())
            .options(["--quiet", "--schedulers", schedulers])
            .options(["--max-mailbox", "64KiB"])
            .outcome()
            .code(0)
            .stdout("down\n")
            .stderr("");
        assert!(!folder.path().join("made").exists(), "a folder was made");
    }
}

#[test]
fn after_an_exit_signal_to_itself() {
    // normal, shutdown, kill, killed.
    for reason in [0, 1, 3, 4] {
        check_own_end(&format!(
            "(call $signal (i32.const 2208) (i32.const {reason}))"
        ));
    }
    check_own_end("(call $signal-bytes (i32.const 2208) %\"why\")");
    check_own_end("(call $trap-exits) (call $signal (i32.const 2208) (i32.const 3))");
}

#[test]
fn after_its_own_exit() {
    check_own_end("(call $exit (i32.const 0) (i32.const 0) (i32.const 0))");
    check_own_end("(call $proc_exit (i32.const 0))");
}

#[test]
fn after_a_link_to_a_dead_process() {
    check_own_end(
        "(call $start %\"gone\" (i32.const 2224))
         (call $await-end (i32.const 2224))
         (call $link-to (i32.const 2224))",
    );
}

#[test]
fn after_one_message_too_many_to_itself() {
    check_own_end(
        "(call $post-bytes (i32.const 2208) (i32.const 1) (i32.const 0x10000) (i32.const 40000))
         (call $post-bytes (i32.const 2208) (i32.const 1) (i32.const 0x10000) (i32.const 40000))",
    );
}

/// How often a child is killed while it computes.
const ROUNDS: u32 = 10;

/// A child reports that it computes. Then it computes for some tenth of a second without giving up its turn, and performs
/// this action. Meanwhile main kills it, performs an action at once, waits for the child's end, and performs the last one.
fn killing(deed: &str, at_once: &str, at_the_end: &str) -> String {
    format!(
        "(func (export \"victim\")
           (local $count i32)
           (call $parent (i32.const 256))
           (call $post (i32.const 256) (i32.const 7))
           (loop $computes
             (br_if $computes (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100000000))))
           {deed})
         (func (export \"run\")
           (local $round i32) (local $is-early i32)
           (loop $again
             (call $start %\"victim\" (i32.const 272))
             (call $watch (i32.const 272) (i32.const 192))
             ;; Main must not wait here: the child's scheduler would wake it, and the child keeps that scheduler busy.
             (loop $until
               (call $yield-now)
               (br_if $until (i32.eqz (call $poll (i32.const 7)))))
             (call $signal (i32.const 272) (i32.const 3))
             {at_once}
             (drop (call $take-down-of (i32.const 192)))
             {at_the_end}
             (br_if $again (i32.lt_u
               (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const {ROUNDS})))))"
    )
}

/// Runs it so that the host never preempts the child.
fn run_killing(guest: impl AsRef<[u8]>) -> Atoll {
    Atoll::run(guest).options(["--schedulers", "2", "--reductions", "1000000000"])
}

/// Lines of the child must come before the line that reports the kill.
#[track_caller]
fn prints_nothing_when_killed(guest: impl AsRef<[u8]>) {
    let outcome = run_killing(guest).outcome().code(0).stderr("");
    // A line before `killed` may be from before the signal, if the child had the only core.
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let rounds: Vec<&[&str]> = lines.split_inclusive(|line| *line == "down").collect();
    assert_eq!(rounds.len(), ROUNDS as usize, "\n{outcome}");
    for round in rounds {
        assert!(
            round.ends_with(&["killed", "down"]),
            "a line after the signal: {round:?}\n{outcome}"
        );
    }
}

#[test]
fn a_process_that_is_killed_while_it_computes_prints_nothing() {
    let body = killing(
        "(drop (call $try-print (i32.const 1) %\"printed\"))",
        "(call $print %\"killed\")",
        "(call $print %\"down\")",
    );
    prints_nothing_when_killed(guest(&body));
}

#[test]
fn a_component_that_is_killed_while_it_computes_prints_nothing() {
    let body = killing(
        "(call $print %\"printed\")",
        "(call $print %\"killed\")",
        "(call $print %\"down\")",
    );
    let body = format!("{TIE_FUNCTIONS} {body}");
    prints_nothing_when_killed(Component::printing_with(TIES, "run victim", &body));
}

#[test]
fn a_process_that_is_killed_while_it_computes_touches_no_file() {
    // Bytes that are there at once may be from before the signal.
    let body = killing(
        "(drop (call $path_create_directory (i32.const 3) %\"made\"))",
        "(local.set $is-early (i64.ne (call $length %\"made\") (i64.const -1)))",
        "(if (i32.eqz (local.get $is-early))
           (then (call $print-number (i64.ne (call $length %\"made\") (i64.const -1)))))
         (drop (call $path_remove_directory (i32.const 3) %\"made\"))",
    );
    let folder = temporary_folder();
    let outcome = granting(run_killing(guest(&body)), folder.path())
        .outcome()
        .code(0)
        .stderr("");
    assert!(
        outcome.stdout.lines().all(|made| made == "0"),
        "a folder was made after the signal\n{outcome}"
    );
    assert!(!folder.path().join("made").exists());
}

#[test]
fn a_file_does_not_grow_after_the_end_of_its_writer() {
    // A child writes 100 MiB in one call. Main kills it when the first of them have been written.
    let body = "(func (export \"victim\")
          (call $must (i32.eqz (call $open %\"file\" (i32.const 1) (i64.const 64))))
          (drop (call $write-to (call $opened) (i32.const 0x20000) (i32.const 0x6400000))))
        (func (export \"run\")
          (local $length i64)
          (call $start %\"victim\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (loop $until (br_if $until (i64.le_s (call $length %\"file\") (i64.const 0))))
          (call $signal (i32.const 272) (i32.const 3))
          (drop (call $take-down-of (i32.const 192)))
          (local.set $length (call $length %\"file\"))
          (call $print-number (i32.wrap_i64 (local.get $length))))";
    for _ in 0..5 {
        let folder = temporary_folder();
        let outcome = granting(Atoll::run(guest_with_pages(1602, body)), folder.path())
            .options(["--schedulers", "2"])
            .outcome()
            .code(0)
            .stderr("");
        let length = fs::metadata(folder.path().join("file"))
            .expect("it is there")
            .len();
        assert_eq!(
            outcome.stdout,
            format!("{length}\n"),
            "the file has grown since"
        );
    }
}
