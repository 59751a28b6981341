//! Timers that processes start, read and cancel. The tests only require that a timer is not early.

use crate::offenders::{Offender, check_traps, check_with};
use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES};

/// A timer-signal, and a message with a reference and a payload, after this many milliseconds.
const STARTING: &str = "
  (func $signal-in (param $milliseconds i64) (param $slot i32) (param $tag i32) (param $timer i32)
    (call $start-timer (i64.mul (local.get $milliseconds) (i64.const 1000000)) (i32.const 0)
      (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (local.get $tag) (local.get $timer)))
  (func $send-in
    (param $milliseconds i64) (param $slot i32) (param $tag i32) (param $at i32) (param $bytes i32) (param $timer i32)
    (call $send-after (i64.mul (local.get $milliseconds) (i64.const 1000000)) (i32.const 0)
      (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (local.get $tag)
      (i32.const 1) (i64.const 11) (i64.const 12) (i32.const 1) (local.get $at) (local.get $bytes)
      (local.get $timer)))
  (func $left (param $timer i32) (result i32)
    (call $read-timer (i64.load (local.get $timer)) (i64.load offset=8 (local.get $timer)) (i32.const 2080))
    (i32.load8_u (i32.const 2080)))
  (func $cancel (param $timer i32) (result i32)
    (call $cancel-timer (i64.load (local.get $timer)) (i64.load offset=8 (local.get $timer)) (i32.const 2080))
    (i32.load8_u (i32.const 2080)))
  (func $now (result i64)
    (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 2352)))
    (i64.load (i32.const 2352)))";

#[track_caller]
fn prints(body: &str, stdout: &str) {
    let imports = format!(
        "{TIES} (import \"wasi_snapshot_preview1\" \"clock_time_get\"
           (func $clock_time_get (param i32 i64 i32) (result i32)))"
    );
    let guest = Guest {
        imports: &imports,
        body: &format!("{TIE_FUNCTIONS} {STARTING} {body}"),
        ..Guest::default()
    };
    for schedulers in ["1", "2"] {
        Atoll::run(guest.text())
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout(stdout)
            .stderr("");
    }
}

#[track_caller]
fn main_prints(run: &str, stdout: &str) {
    prints(
        &format!(
            "(func (export \"run\") (local $count i32) (local $sum i32) (local $begin i64) (call $self (i32.const 16)) {run})"
        ),
        stdout,
    );
}

#[test]
fn messages_in_some_time() {
    main_prints(
        "(local.set $begin (call $now))
         (call $send-in (i64.const 5) (i32.const 16) (i32.const 3) %\"payload\" (i32.const 2304))
         (call $must (call $left (i32.const 2304)))
         (call $print-number (call $take-any))
         (call $must (i64.ge_u (i64.sub (call $now) (local.get $begin)) (i64.const 5000000)))
         (call $must (i32.eqz (call $left (i32.const 2304))))
         (call $must (i32.eqz (call $cancel (i32.const 2304))))
         (call $must (call $same (i32.const 112) (i32.const 16)))
         (call $must (i64.eq (i64.load (i32.const 144)) (i64.const 11)))
         (call $must (i64.eq (i64.load (i32.const 152)) (i64.const 12)))
         (call $must (i32.eq (i32.load8_u (i32.const 160)) (i32.const 1)))
         (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168)))
         ;; A delay of zero.
         (call $send-in (i64.const 0) (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 2304))
         (call $print-number (call $take-any))
         (call $must (call $is-empty))",
        "3\npayload\n4\n",
    );
}

#[test]
fn signals_in_some_time() {
    main_prints(
        "(local.set $begin (call $now))
         (call $signal-in (i64.const 5) (i32.const 16) (i32.const 3) (i32.const 2304))
         (call $take-kinds (i32.const 8))
         (call $must (i64.ge_u (i64.sub (call $now) (local.get $begin)) (i64.const 5000000)))
         (call $must (call $same (i32.const 112) (i32.const 2304)))
         (call $print-number (i32.load (i32.const 128)))
         ;; By its reference, while another one that came before waits.
         (call $signal-in (i64.const 0) (i32.const 16) (i32.const 4) (i32.const 2304))
         (call $signal-in (i64.const 1) (i32.const 16) (i32.const 5) (i32.const 2320))
         (call $take-reference (i32.const 2320))
         (call $print-number (i32.load (i32.const 128)))
         (call $take-kinds (i32.const 8))
         (call $print-number (i32.load (i32.const 128)))
         (call $must (call $same (i32.const 112) (i32.const 2304)))
         (call $must (call $is-empty))",
        "3\n5\n4\n",
    );
}

#[test]
fn timers_that_are_cancelled_do_nothing() {
    // The second timer's signal comes when the first one's would have come.
    main_prints(
        "(call $signal-in (i64.const 10) (i32.const 16) (i32.const 3) (i32.const 2304))
         (call $send-in (i64.const 10) (i32.const 16) (i32.const 4) %\"payload\" (i32.const 2320))
         (call $must (call $left (i32.const 2304)))
         (call $must (i64.le_u (i64.load (i32.const 2088)) (i64.const 10000000)))
         (call $print-number (call $cancel (i32.const 2304)))
         (call $must (i64.le_u (i64.load (i32.const 2088)) (i64.const 10000000)))
         (call $print-number (call $cancel (i32.const 2304)))
         (call $print-number (call $left (i32.const 2304)))
         (call $print-number (call $cancel (i32.const 2320)))
         (call $signal-in (i64.const 20) (i32.const 16) (i32.const 5) (i32.const 2304))
         (drop (call $take-any))
         (call $print-number (i32.load (i32.const 128)))
         (call $must (call $is-empty))
         ;; References without a timer.
         (call $make-reference (i32.const 192))
         (call $print-number (call $cancel (i32.const 192)))
         (i64.store (i32.const 192) (i64.const -1)) (i64.store (i32.const 200) (i64.const -1))
         (call $print-number (call $cancel (i32.const 192)))
         (call $print-number (call $left (i32.const 192)))",
        "1\n0\n0\n1\n5\n0\n0\n0\n",
    );
}

#[test]
fn timers_that_never_run_out() {
    main_prints(
        "(call $start-timer (i64.const -1) (i32.const 0)
           (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 3) (i32.const 2304))
         (call $start-timer (i64.const 0x7fffffffffffffff) (i32.const 0)
           (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 4) (i32.const 2320))
         (call $signal-in (i64.const 2) (i32.const 16) (i32.const 5) (i32.const 2336))
         (drop (call $take-any))
         (call $print-number (i32.load (i32.const 128)))
         (call $must (call $is-empty))
         ;; A hundred years are left.
         (call $print-number (call $left (i32.const 2304)))
         (call $must (i64.gt_u (i64.load (i32.const 2088)) (i64.const 3000000000000000000)))
         (call $print-number (call $cancel (i32.const 2304)))
         (call $must (i64.gt_u (i64.load (i32.const 2088)) (i64.const 3000000000000000000)))
         (call $print-number (call $left (i32.const 2320)))
         (call $must (i64.gt_u (i64.load (i32.const 2088)) (i64.const 3000000000000000000)))",
        "5\n1\n1\n1\n",
    );
}

#[test]
fn a_timer_ends_with_the_process_that_started_it() {
    // One process starts a timer for main and stays. The other one starts a shorter timer and ends.
    let body = "(func (export \"owner\")
          (call $parent (i32.const 256))
          (call $signal-in (i64.const 20) (i32.const 256) (i32.const 3) (i32.const 2304))
          (call $send-in (i64.const 20) (i32.const 256) (i32.const 3) %\"payload\" (i32.const 2304)))
        (func (export \"keeper\")
          (call $parent (i32.const 256))
          (call $signal-in (i64.const 40) (i32.const 256) (i32.const 4) (i32.const 2304))
          (call $stays))
        (func (export \"run\")
          (call $start %\"owner\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $start %\"keeper\" (i32.const 272))
          (drop (call $take-any))
          (call $print-number (i32.load8_u (i32.const 104)))
          (call $print-number (i32.load (i32.const 128)))
          (call $must (call $is-empty)))";
    prints(body, "0\n3\n4\n");
}

#[test]
fn timers_for_others() {
    // The process that has the name when the timer fires gets the message; if no process has it, the message is lost. The
    // sender is the process that started the timer.
    let body = "(func (export \"tells\")
          (call $parent (i32.const 256))
          (drop (call $take-any))
          (call $must (call $same (i32.const 112) (i32.const 256)))
          (call $post-bytes (i32.const 256) (i32.const 9) (i32.const 128) (i32.const 4)))
        (func (export \"run\")
          (call $self (i32.const 16))
          (call $start %\"stays\" (i32.const 288))
          (call $start %\"tells\" (i32.const 272))
          (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 288))))
          (call $send-after (i64.const 5000000) (i32.const 1)
            (i64.extend_i32_u (call $first %\"one\")) (i64.const 3) (i32.const 6)
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2304))
          (call $must (call $unregister %\"one\"))
          (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 272))))
          (call $take (i32.const 9))
          (call $print-number (i32.load (i32.load (i32.const 164))))
          ;; To a dead process, to a free name, and to an invalid name.
          (call $end (i32.const 288))
          (call $send-in (i64.const 1) (i32.const 288) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 2304))
          (call $start-timer (i64.const 1000000) (i32.const 1)
            (i64.extend_i32_u (call $first %\"two\")) (i64.const 3) (i32.const 7) (i32.const 2304))
          (call $start-timer (i64.const 1000000) (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 7) (i32.const 2304))
          (call $signal-in (i64.const 5) (i32.const 16) (i32.const 8) (i32.const 2304))
          (drop (call $take-any))
          (call $print-number (i32.load (i32.const 128)))
          (call $must (call $is-empty)))
        (func $first (param i32 i32) (result i32) (local.get 0))";
    prints(body, "6\n8\n");
}

#[test]
fn ten_thousand_timers() {
    // Main cancels one of every three timers. It counts the messages by their tags, and adds them up.
    main_prints(
        "(loop $next
           (call $signal-in (i64.extend_i32_u (i32.rem_u (i32.mul (local.get $count) (i32.const 7919)) (i32.const 50)))
             (i32.const 16) (local.get $count) (i32.const 2304))
           (call $start-timer (i64.const 1000000000000) (i32.const 0) (i64.load (i32.const 16))
             (i64.load (i32.const 24)) (i32.const -1) (i32.const 2320))
           (call $must (call $cancel (i32.const 2320)))
           (br_if $next (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000))))
         (loop $next
           (call $take-kinds (i32.const 8))
           (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 128))))
           (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
         (call $print-number (local.get $sum))
         (call $must (call $is-empty))",
        "49995000\n",
    );
}

fn pieces<'a>(body: &'a str) -> Guest<'a> {
    Guest {
        imports: TIES,
        body,
        ..Guest::default()
    }
}

/// The functions here that a bare guest can use. It has no clock.
fn bare() -> String {
    let (functions, _) = STARTING
        .split_once("(func $now")
        .expect("the clock is the last one");
    format!("{TIE_FUNCTIONS} {functions}")
}

#[test]
fn payloads_of_timers_are_bounded_as_a_mailbox_is() {
    let bare = bare();
    let hoard = "(call $self (i32.const 16))
        (loop $again
          (call $send-in (i64.const 1000000) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 65536) (i32.const 192))
          BETWEEN
          (br $again))";
    check_with(
        &pieces(&bare),
        &["--max-mailbox", "1MiB"],
        &[Offender {
            name: "hoarder",
            body: &hoard.replace("BETWEEN", ""),
            reason: "exhausted: resources",
        }],
    );
    // Cancelled and expired timers leave room.
    let run = hoard
        .replace("(br $again)", "(br_if $again (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000)))");
    main_prints(
        &run.replace("BETWEEN", "(call $must (call $cancel (i32.const 192)))"),
        "",
    );
    main_prints(
        &run.replace("(i64.const 1000000)", "(i64.const 0)")
            .replace("BETWEEN", "(call $take (i32.const 1))"),
        "",
    );
}

#[test]
fn a_message_of_a_timer_is_no_larger_than_others() {
    let bare = bare();
    check_with(
        &pieces(&bare),
        &["--max-message", "1000"],
        &[Offender {
            name: "sender",
            body: "(call $self (i32.const 16))
                (call $send-in (i64.const 0) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 1001) (i32.const 192))",
            reason: "exhausted: message",
        }],
    );
}

#[test]
fn addresses_and_cases_that_are_not_there() {
    let outside = "lies outside of the memory (0x20000 bytes)";
    let envelope = "(i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0)";
    let cases = [
        (
            "(call $start-timer (i64.const 0) (i32.const 2) (i64.const 0) (i64.const 0) (i32.const 1) (i32.const 192))".to_owned(),
            "start-timer: 2 is no case of `destination`".to_owned(),
        ),
        (
            "(call $start-timer (i64.const 0) (i32.const 1) (i64.const 0x1ffff) (i64.const 2) (i32.const 1) (i32.const 192))".into(),
            format!("start-timer: the name (address 0x1ffff, 2 bytes) {outside}"),
        ),
        (
            format!("(call $send-after (i64.const 0) (i32.const 3) (i64.const 0) (i64.const 0) {envelope}
               (i32.const 0) (i32.const 0) (i32.const 192))"),
            "send-after: 3 is no case of `destination`".into(),
        ),
        (
            format!("(call $send-after (i64.const 0) (i32.const 0) (i64.const 0) (i64.const 0) {envelope}
               (i32.const 0x20000) (i32.const 1) (i32.const 192))"),
            format!("send-after: the payload (address 0x20000, 1 bytes) {outside}"),
        ),
        (
            "(call $cancel-timer (i64.const 0) (i64.const 0) (i32.const 2084))".into(),
            "cancel-timer: the result's address 0x824 is not aligned".into(),
        ),
        (
            "(call $read-timer (i64.const 0) (i64.const 0) (i32.const 0x1fff8))".into(),
            format!("read-timer (address 0x1fff8, 16 bytes) {outside}"),
        ),
    ];
    check_traps(&pieces(TIE_FUNCTIONS), &[], &cases);
}
