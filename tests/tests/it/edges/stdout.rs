//! Standard output that fails or has a reader while the program runs: no error is lost, and no byte.

use super::{full_device, guest, temporary_folder};
use atoll_tests::{Atoll, Signal};
use std::fs;
use std::io::{self, Read as _};

/// A main that runs this body a number of times.
fn repeated(count: u32, body: &str) -> String {
    guest(&format!(
        "(func (export \"run\")
           (local $count i32)
           (loop $again
             {body}
             (br_if $again (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {count})))))"
    ))
}

const TRY_LINE: &str = "(drop (call $try-print (i32.const 1) %\"a result\"))";

#[test]
fn output_that_can_not_be_written_is_a_failure() {
    // The guest ignores errors, as most programs do.
    for guest in [repeated(1, TRY_LINE), repeated(1000, TRY_LINE)] {
        Atoll::run(guest)
            .stdout_to(full_device())
            .outcome()
            .fails_with_a_message();
    }
}

#[test]
fn an_unfinished_line_that_can_not_be_written_is_a_failure() {
    Atoll::run(guest(
        "(func (export \"run\") (drop (call $write %\"no end\")))",
    ))
    .stdout_to(full_device())
    .outcome()
    .fails_with_a_message();
}

#[test]
fn help_that_can_not_be_written_is_a_failure() {
    for words in [&["--help"][..], &["run", "--help"], &["--version"]] {
        Atoll::words(words.iter().copied())
            .stdout_to(full_device())
            .outcome()
            .fails_with_a_message();
    }
}

#[test]
fn an_inspection_that_can_not_be_written_is_a_failure() {
    for options in [&[][..], &["--json"]] {
        Atoll::inspect(guest("(func (export \"run\"))"))
            .options(options.iter().copied())
            .stdout_to(full_device())
            .outcome()
            .fails_with_a_message();
    }
}

#[test]
fn a_write_after_a_failure_returns_the_error() {
    // Main exits with the number of the first error.
    let body = "(func (export \"run\")
          (local $error i32) (local $count i32)
          (loop $again
            (local.set $error (call $try-print (i32.const 1) %\"a result\"))
            (if (local.get $error) (then (call $proc_exit (local.get $error))))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000000)))))";
    let outcome = Atoll::run(guest(body)).stdout_to(full_device()).outcome();
    // ENOSPC is 51, EIO 29.
    assert!(
        matches!(outcome.code, Some(51 | 29)),
        "no error that says so\n{outcome}"
    );
}

#[test]
fn a_pipe_without_a_reader_is_a_broken_pipe() {
    let body = "(func (export \"run\")
          (local $error i32)
          (loop $again
            (local.set $error (call $try-print (i32.const 1) %\"a line of text that nobody reads to its end\"))
            (br_if $again (i32.eqz (local.get $error))))
          (call $proc_exit (local.get $error)))";
    // EPIPE is 64.
    for bytes in [0, 10, 100_000] {
        Atoll::run(guest(body))
            .outcome_if_output_closes_after(bytes)
            .code(64);
    }
}

/// The reader gets an unfinished line while the process does this, which has no end.
#[track_caller]
fn shows_unfinished_line(meanwhile: &str) {
    let body = format!(
        "(func (export \"run\")
           (call $must (i32.eqz (call $write %\"ready> \")))
           {meanwhile})"
    );
    let mut running = Atoll::run(guest(&body)).start();
    running.until_stdout("ready> ");
    running.signal(Signal::TERM);
    running
        .outcome()
        .stopped_by(Signal::TERM)
        .stdout("ready> ")
        .stderr("");
}

#[test]
fn an_unfinished_line_can_be_read_while_its_process_sleeps() {
    shows_unfinished_line("(call $sleep (i64.const 100000))");
}

#[test]
fn an_unfinished_line_can_be_read_while_its_process_computes() {
    shows_unfinished_line("(loop $for-ever (br $for-ever))");
}

#[test]
fn an_unfinished_line_can_be_read_while_its_process_waits_for_mail() {
    shows_unfinished_line("(drop (call $take-any))");
}

/// Half a line on standard output, a line on standard error, and the other half.
const BOTH: &str = "(func (export \"run\")
      (call $must (i32.eqz (call $write-to (i32.const 1) %\"first half\")))
      (call $must (i32.eqz (call $try-print (i32.const 2) %\"a warning\")))
      (call $must (i32.eqz (call $try-print (i32.const 1) %\"second half\"))))";

/// The three texts came in the order in which they were written, each as a whole.
#[track_caller]
fn check_order(text: &str) {
    let order = ["first half", "a warning\n", "second half\n"].map(|part| text.find(part));
    assert!(
        order[0].is_some() && order[0] < order[1] && order[1] < order[2],
        "not in the order in which it was written: {text:?}"
    );
}

#[test]
fn output_and_error_in_one_pipe_keep_their_order() {
    let (mut reader, writer) = io::pipe().expect("a pipe can be made");
    Atoll::run(guest(BOTH))
        .stdout_to(writer.try_clone().expect("it is open"))
        .stderr_to(writer)
        .outcome()
        .code(0);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("it can be read");
    check_order(&text);
}

#[test]
fn output_and_error_in_one_file_keep_their_order() {
    let folder = temporary_folder();
    let path = folder.path().join("both");
    let file = fs::File::create(&path).expect("it can be made");
    Atoll::run(guest(BOTH))
        .stdout_to(file.try_clone().expect("it is open"))
        .stderr_to(file)
        .outcome()
        .code(0);
    check_order(&fs::read_to_string(&path).expect("it can be read"));
}

#[test]
fn lines_that_are_written_in_pieces_between_waits_do_not_mix() {
    // Each child writes its letter in pieces. In between it waits for an answer from the server. Atoll may then show the
    // unfinished part, but no line may hold two letters.
    let body = "(func (export \"writer\")
          (local $piece i32) (local $line i32)
          (call $argument (i32.const 176))
          (call $copy-id (i32.load (i32.const 176)) (i32.const 2208))
          (memory.fill (i32.const 1024) (i32.load8_u offset=16 (i32.load (i32.const 176))) (i32.const 25))
          (loop $lines
            (local.set $piece (i32.const 0))
            (loop $pieces
              (call $must (i32.eqz (call $write (i32.const 1024) (i32.const 25))))
              (call $must (i32.eqz
                (call $request (i32.const 2208) (i32.const 1) (i32.const 0) (i32.const 0) (i64.const -1))))
              (br_if $pieces (i32.lt_u
                (local.tee $piece (i32.add (local.get $piece) (i32.const 1))) (i32.const 3))))
            (call $must (i32.eqz (call $try-print (i32.const 1) (i32.const 1024) (i32.const 25))))
            (br_if $lines (i32.lt_u
              (local.tee $line (i32.add (local.get $line) (i32.const 1))) (i32.const 4)))))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"server\" (i32.const 2304))
          (loop $next
            (i32.store8 (i32.const 2320)
              (i32.add (i32.const 65) (i32.rem_u (local.get $count) (i32.const 26))))
            (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"writer\" (i32.const 2304) (i32.const 17)
              (i32.const 0) (i32.const 0) (i32.const 64))
            (call $must (i32.eq (i32.const -1) (call $spawned
              (i32.add (i32.const 0x10000) (i32.mul (local.get $count) (i32.const 16))))))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 260))))
          (loop $end
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (call $await-end (i32.add (i32.const 0x10000) (i32.mul (local.get $count) (i32.const 16))))
            (br_if $end (local.get $count))))";
    let outcome = Atoll::run(guest(body)).outcome().code(0).stderr("");
    let mut counts = [0; 26];
    for line in outcome.stdout.lines().filter(|line| !line.is_empty()) {
        let bytes = line.as_bytes();
        assert!(
            bytes[0].is_ascii_uppercase() && bytes.iter().all(|byte| *byte == bytes[0]),
            "a mixed line: {line:?}"
        );
        counts[usize::from(bytes[0] - b'A')] += bytes.len();
    }
    // Ten processes for each letter, and each writes four lines of a hundred.
    assert_eq!(counts, [10 * 4 * 100; 26]);
}

#[test]
fn no_neighbours_last_line_is_lost_beside_a_flood_of_last_lines() {
    // Main starts a thousand processes that leave 8 KB of an unfinished line each, and between them 200 that leave a short
    // one. The reader is slow: it takes a few bytes at a time.
    let body = "(func (export \"large\")
          (memory.fill (i32.const 0x10000) (i32.const 120) (i32.const 8000))
          (drop (call $write (i32.const 0x10000) (i32.const 8000))))
        (func (export \"leaves\")
          (call $argument (i32.const 176))
          (drop (call $write (i32.load (i32.const 176)) (i32.const 12))))
        (func (export \"run\")
          (local $count i32) (local $flood i32) (local $slot i32)
          (local.set $slot (i32.const 0x10000))
          (memory.copy (i32.const 2208) %\"neighbour-\")
          (loop $next
            (local.set $flood (i32.const 0))
            (loop $floods
              (call $start %\"large\" (local.get $slot))
              (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
              (br_if $floods (i32.lt_u
                (local.tee $flood (i32.add (local.get $flood) (i32.const 1))) (i32.const 5))))
            ;; The process's number as two letters.
            (i32.store8 (i32.const 2218)
              (i32.add (i32.const 65) (i32.div_u (local.get $count) (i32.const 20))))
            (i32.store8 (i32.const 2219)
              (i32.add (i32.const 65) (i32.rem_u (local.get $count) (i32.const 20))))
            (call $spawn (i32.const 0) (i32.const 0) (i32.const 0)
              %\"leaves\" (i32.const 2208) (i32.const 12) (i32.const 0) (i32.const 0) (i32.const 64))
            (call $must (i32.eq (i32.const -1) (call $spawned (local.get $slot))))
            (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 200))))
          (loop $end
            (local.set $slot (i32.sub (local.get $slot) (i32.const 16)))
            (call $await-end (local.get $slot))
            (br_if $end (i32.gt_u (local.get $slot) (i32.const 0x10000)))))";
    let (mut reader, writer) = io::pipe().expect("a pipe can be made");
    let running = Atoll::run(guest(body)).stdout_to(writer).start();
    let mut text = Vec::new();
    let mut part = [0; 64];
    while let Ok(count @ 1..) = reader.read(&mut part) {
        text.extend_from_slice(&part[..count]);
    }
    running.outcome().code(0);
    let text = String::from_utf8_lossy(&text);
    let letter = |number: u8| char::from(b'A' + number);
    let missing = (0..200).filter(|number| {
        !text.contains(&format!(
            "neighbour-{}{}",
            letter(number / 20),
            letter(number % 20)
        ))
    });
    let missing = missing.count();
    assert!(missing == 0, "{missing} of 200 last lines are missing");
}
