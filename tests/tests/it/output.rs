//! Standard output, error and input: whole lines of one process each, no lost bytes, and readers that go away.

use atoll_tests::{Atoll, Guest, guest};

/// A child writes its lines in pieces, and gives up its turn between them.
const WRITERS: &str = "
    (func (export \"writer\")
      (local $line i32) (local $piece i32)
      (call $argument (i32.const 176))
      ;; Its letter, 25 times in each of four pieces, and then the end of the line.
      (memory.fill (i32.const 1024) (i32.load8_u (i32.load (i32.const 176))) (i32.const 25))
      (loop $lines
        (local.set $piece (i32.const 0))
        (loop $pieces
          (call $must (i32.eqz (call $write (i32.const 1024) (i32.const 25))))
          (call $yield-now)
          (br_if $pieces (i32.lt_u
            (local.tee $piece (i32.add (local.get $piece) (i32.const 1))) (i32.const 4))))
        (i32.store8 (i32.const 1100) (i32.const 10))
        (call $must (i32.eqz (call $write (i32.const 1100) (i32.const 1))))
        (br_if $lines (i32.lt_u
          (local.tee $line (i32.add (local.get $line) (i32.const 1))) (i32.const LINES)))))
    (func (export \"run\")
      (local $count i32)
      (loop $next
        ;; Letters from A to Z, over and over.
        (i32.store8 (i32.const 1024)
          (i32.add (i32.const 65) (i32.rem_u (local.get $count) (i32.const 26))))
        (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"writer\" (i32.const 1024) (i32.const 1)
          (i32.const 0) (i32.const 0) (i32.const 64))
        (call $must (i32.eq (i32.const -1) (call $spawned
          (i32.add (i32.const 0x10000) (i32.mul (local.get $count) (i32.const 16))))))
        (br_if $next (i32.lt_u
          (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
      (loop $end
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (call $await-end (i32.add (i32.const 0x10000) (i32.mul (local.get $count) (i32.const 16))))
        (br_if $end (local.get $count))))";

#[test]
fn lines_of_a_thousand_processes_do_not_mix() {
    for schedulers in ["1", "4"] {
        let outcome = Atoll::run(guest(&WRITERS.replace("LINES", "5")))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stderr("");
        let mut counts = [0; 26];
        for line in outcome.stdout.lines() {
            let letter = line.as_bytes().first().copied().unwrap_or(b' ');
            assert!(
                letter.is_ascii_uppercase() && line == String::from(char::from(letter)).repeat(100),
                "a mixed line: {line:?}"
            );
            counts[usize::from(letter - b'A')] += 1;
        }
        // 1000 is 38 times 26 and 12 more.
        let expected: [i32; 26] =
            std::array::from_fn(|letter| if letter < 12 { 39 * 5 } else { 38 * 5 });
        assert_eq!(counts, expected);
    }
}

#[test]
fn standard_output_and_error_are_apart() {
    let body = "(func $write-to (param $file i32) (param $at i32) (param $bytes i32)
          (i32.store (i32.const 32) (local.get $at))
          (i32.store (i32.const 36) (local.get $bytes))
          (call $must (i32.eqz
            (call $fd_write (local.get $file) (i32.const 32) (i32.const 1) (i32.const 40)))))
        (func (export \"run\")
          (call $write-to (i32.const 1) %\"to output\")
          (call $write-to (i32.const 2) %\"to error\"))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("to output")
        .stderr("to error");
}

#[test]
fn bytes_go_through_as_they_are() {
    // All bytes, and a line of 100,000 bytes without an end.
    let body = "(func (export \"run\")
          (local $at i32)
          (loop $next
            (i32.store8 offset=1024 (local.get $at) (local.get $at))
            (br_if $next (i32.lt_u
              (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 128))))
          (call $must (i32.eqz (call $write (i32.const 1024) (i32.const 128))))
          (memory.fill (i32.const 4096) (i32.const 120) (i32.const 100000))
          (loop $again
            (call $must (i32.eqz (call $write (i32.const 4096) (i32.const 100000))))
            (local.set $at (i32.load (i32.const 40)))
            (br_if $again (i32.ne (local.get $at) (i32.const 100000)))))";
    let expected: String = (0..128u8).map(char::from).collect();
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout(&(expected + &"x".repeat(100_000)))
        .stderr("");
}

/// Main prints lines until that fails, and exits with the error number.
const PRINTS_FOR_EVER: &str = "(func (export \"run\")
      (local $error i32)
      (loop $again
        (local.set $error (call $write %\"a line of text that nobody reads to its end\\n\"))
        (br_if $again (i32.eqz (local.get $error))))
      (call $proc_exit (local.get $error)))";

#[test]
fn a_reader_that_goes_away_is_an_error_that_the_guest_sees() {
    let body = PRINTS_FOR_EVER.replace("\\n", "");
    for bytes in [0, 1, 100_000] {
        let outcome = Atoll::run(guest(&body)).outcome_if_output_closes_after(bytes);
        // EPIPE is 64, EIO 29. The guest can learn only that the stream is closed.
        assert!(
            matches!(outcome.code, Some(64 | 29)),
            "no error that says so\n{outcome}"
        );
    }
}

#[test]
fn a_guest_that_ignores_closed_output_goes_on() {
    let body = "(func (export \"run\")
          (local $count i32)
          (call $start %\"neighbour\" (i32.const 256))
          (loop $again
            (drop (call $write %\"a line of text that nobody reads to its end\"))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100000))))
          (call $proc_exit (i32.add (call $ask (i32.const 256)) (i32.const 6))))";
    Atoll::run(guest(body))
        .outcome_if_output_closes_after(10)
        .code(7)
        .stderr("");
}

#[test]
fn processes_that_wait_for_output_end_with_main() {
    // There is no reader. Children fill every buffer and wait. Main still ends, and then the reader has gone.
    let body = "(func (export \"child\")
          (loop $again (drop (call $write %\"a line of text that nobody reads to its end\")) (br $again)))
        (func (export \"run\")
          (local $count i32)
          (loop $next
            (call $start %\"child\" (i32.const 256))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50))))
          (call $start %\"neighbour\" (i32.const 256))
          (loop $ask
            (br_if $ask (i32.lt_u (call $ask (i32.const 256)) (i32.const 100)))))";
    Atoll::run(guest(body))
        .outcome_if_output_closes_after(1000)
        .code(0)
        .stderr("");
}

#[test]
fn reports_come_out_whole_between_the_lines_of_guests() {
    let body = "(func (export \"crasher\") unreachable)
        (func (export \"run\")
          (local $count i32)
          (i32.store (i32.const 1024) (i32.const 0x78787878))
          (loop $again
            (i32.store (i32.const 32) (i32.const 1024))
            (i32.store (i32.const 36) (i32.const 4))
            (drop (call $fd_write (i32.const 2) (i32.const 32) (i32.const 1) (i32.const 40)))
            (call $start %\"crasher\" (i32.const 256))
            (call $await-end (i32.const 256))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100)))))";
    let outcome = Atoll::run(guest(body)).outcome().code(0);
    let crashes = outcome.crashes();
    assert_eq!(crashes.len(), 100, "\n{outcome}");
    for crash in crashes {
        assert_eq!(
            crash.reason,
            "trap: wasm trap: wasm `unreachable` instruction executed"
        );
    }
}

const READS: &str = "(import \"wasi_snapshot_preview1\" \"fd_read\"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))";
/// Copies standard input to standard output.
const CAT: &str = "(func (export \"run\")
      (loop $again
        (i32.store (i32.const 1024) (i32.const 0x10000))
        (i32.store (i32.const 1028) (i32.const 10000))
        (call $must (i32.eqz (call $fd_read (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1032))))
        (if (i32.load (i32.const 1032))
          (then
            (call $must (i32.eqz (call $write (i32.const 0x10000) (i32.load (i32.const 1032)))))
            (br $again)))))";

#[test]
fn standard_input() {
    let cat = Guest {
        imports: READS,
        body: CAT,
        ..Guest::default()
    }
    .text();
    let long = "some text\n".repeat(20_000);
    for text in ["", "one line\n", "no end", &long] {
        Atoll::run(&cat)
            .stdin(text)
            .outcome()
            .code(0)
            .stdout(text)
            .stderr("");
    }
    Atoll::run(&cat)
        .stdin("not for the guest")
        .options(["--no-stdin"])
        .outcome()
        .code(0)
        .stdout("")
        .stderr("");
}
