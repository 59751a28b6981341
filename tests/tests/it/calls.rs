//! Requests and answers: `call`, `reply`, aliases.

use crate::offenders::check_traps;
use crate::signals::{main_prints, prints};
use atoll_tests::{Guest, TIE_FUNCTIONS, TIES};

#[test]
fn a_call_is_answered() {
    main_prints(
        "(call $start %\"server\" (i32.const 272))
         (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const -1)))
         (call $must (call $same (i32.const 2136) (i32.const 272)))
         (call $print-number (i32.load (i32.const 2152)))
         (call $print-number (i32.load8_u (i32.const 2160)))
         (call $print-number (i32.load8_u (i32.const 2184)))
         (call $print (i32.load (i32.const 2188)) (i32.load (i32.const 2192)))
         (call $print-number (call $request (i32.const 272) (i32.const 5) (i32.const 0) (i32.const 0) (i64.const 60000)))
         (call $print-number (i32.load (i32.const 2152)))
         (call $print-number (i32.load (i32.const 2192)))
         ;; The server's end causes no signal to the caller.
         (call $end (i32.const 272))
         (call $must (call $is-empty))",
        "0\n5\n1\n0\npayload\n0\n6\n0\n",
    );
}

#[test]
fn a_call_takes_nothing_else_from_the_mailbox() {
    // Messages, an exit-signal and a down-signal that come before and during the call stay in the mailbox.
    let body = "(func (export \"busy-body\")
          (call $parent (i32.const 256))
          (drop (call $take-any))
          (call $copy-id (i32.const 144) (i32.const 2208))
          (call $copy-id (i32.const 112) (i32.const 2224))
          (call $start %\"links\" (i32.const 288))
          (call $take (i32.const 8))
          (call $post (i32.const 256) (i32.const 31))
          (call $reply (i64.load (i32.const 2224)) (i64.load (i32.const 2232))
            (i64.load (i32.const 2208)) (i64.load (i32.const 2216)) (i32.const 5) (i32.const 1) %\"answer\"))
        (func (export \"links\")
          (call $parent (i32.const 256))
          (call $exit-process (i64.load (i32.const 240)) (i64.load (i32.const 248)) (i32.const 1) (i32.const 0) (i32.const 0))
          (call $post (i32.const 256) (i32.const 8)))
        (func (export \"run\")
          (call $trap-exits)
          (call $self (i32.const 16))
          (call $post (i32.const 16) (i32.const 30))
          (call $start %\"busy-body\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const -1)))
          (call $print-number (i32.load8_u (i32.const 2184)))
          (call $print (i32.load (i32.const 2188)) (i32.load (i32.const 2192)))
          (call $print-number (call $take-any))
          (call $print-number (call $take-any))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $must (call $is-empty)))";
    prints(body, "0\n1\nanswer\n30\n31\n0\n");
}

#[test]
fn a_server_that_ends_before_it_answers() {
    let body = "(func (export \"dies\")
          (drop (call $take-any))
          (call $exit (i32.const 10) %\"why\"))
        (func (export \"returns\") (drop (call $take-any)))
        (func (export \"traps-out\") (drop (call $take-any)) (unreachable))
        (func $call-one (call $print-number
          (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const -1)))
          (call $print-number (i32.load8_u (i32.const 2140))))
        (func (export \"run\")
          (call $start %\"dies\" (i32.const 272))
          (call $call-one)
          (call $print (i32.load (i32.const 2144)) (i32.load (i32.const 2148)))
          (call $must (call $is-empty))
          (call $start %\"returns\" (i32.const 272))
          (call $call-one)
          (call $start %\"traps-out\" (i32.const 272))
          (call $call-one)
          ;; And a server that has ended.
          (call $call-one)
          (i64.store (i32.const 272) (i64.const -1))
          (call $call-one)
          (call $must (call $is-empty)))";
    prints(body, "2\n10\nwhy\n2\n0\n2\n7\n2\n5\n2\n5\n");
}

#[test]
fn a_call_by_name() {
    let call = |name: &str| {
        format!(
            "(call $call (i32.const 1) (i64.extend_i32_u (call $first %\"{name}\")) (i64.const {}) (i32.const 4)
               (i32.const 0) %\"payload\" (i32.const 0) (i64.const 0) (i32.const 2128))
             (call $print-number (call $answered))",
            name.len()
        )
    };
    let body = format!(
        "(func $first (param i32 i32) (result i32) (local.get 0))
         (func (export \"run\")
           (call $start %\"server\" (i32.const 272))
           {nobody}
           (call $print-number (i32.load8_u (i32.const 2140)))
           (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 272))))
           {one}
           (call $must (call $same (i32.const 2136) (i32.const 272)))
           (call $print (i32.load (i32.const 2188)) (i32.load (i32.const 2192)))
           (call $must (call $is-empty)))",
        nobody = call("one"),
        one = call("one"),
    );
    prints(&body, "2\n5\n0\npayload\n");
}

/// A server that answers its first request when it gets a second message, reports that (tag 10), and stays.
const SLOW: &str = "(func (export \"slow\")
    (drop (call $take-any))
    (memory.copy (i32.const 2208) (i32.const 112) (i32.const 48))
    (call $take (i32.const 9))
    (memory.copy (i32.const 112) (i32.const 2208) (i32.const 48))
    (call $answer (i32.const 5) %\"late\")
    (call $post (i32.const 2208) (i32.const 10))
    (call $stays))";

#[test]
fn an_answer_that_is_late_is_dropped() {
    let body = format!(
        "{SLOW}
         (func (export \"run\")
           (call $start %\"slow\" (i32.const 272))
           (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const 5)))
           (call $post (i32.const 272) (i32.const 9))
           (call $take (i32.const 10))
           (call $must (call $is-empty))
           ;; The late answer does not answer the next call, and the server's end causes no signal.
           (call $start %\"slow\" (i32.const 272))
           (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const 0)))
           (call $post (i32.const 272) (i32.const 9))
           (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const 5)))
           (call $take (i32.const 10))
           (call $end (i32.const 272))
           (call $must (call $is-empty)))"
    );
    prints(&body, "1\n1\n1\n");
}

#[test]
fn calls_that_time_out_at_the_moment_of_the_answer() {
    // The mailbox is empty afterwards in both orders.
    let body = "(func (export \"run\")
          (local $count i32)
          (call $start %\"server\" (i32.const 272))
          (call $start %\"server\" (i32.const 288))
          (loop $again
            (global.set $heap (i32.const 32768))
            (call $call (i32.const 0) (i64.load (i32.const 272)) (i64.load (i32.const 280)) (i32.const 4)
              (i32.const 0) (i32.const 0) (i32.const 100)
              (i32.const 1) (i64.extend_i32_u (i32.mul (local.get $count) (i32.const 20))) (i32.const 2128))
            (call $must (i32.lt_u (call $answered) (i32.const 2)))
            ;; The server has answered the earlier request before it answers this one.
            (call $must (i32.eqz (call $request (i32.const 272) (i32.const 5) (i32.const 0) (i32.const 0) (i64.const -1))))
            (call $must (i32.eq (i32.load (i32.const 2152)) (i32.const 6)))
            (call $must (call $is-empty))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 2000))))
          (call $print %\"done\"))";
    prints(body, "done\n");
}

#[test]
fn a_second_answer_is_dropped() {
    let body = "(func (export \"twice\")
          (drop (call $take-any))
          (call $answer (i32.const 5) %\"first\")
          (call $answer (i32.const 6) %\"second\")
          (call $post (i32.const 112) (i32.const 10))
          (call $stays))
        (func (export \"run\")
          (call $start %\"twice\" (i32.const 272))
          (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const -1)))
          (call $print (i32.load (i32.const 2188)) (i32.load (i32.const 2192)))
          (call $take (i32.const 10))
          (call $must (call $is-empty)))";
    prints(body, "0\nfirst\n");
}

#[test]
fn another_process_answers() {
    let body = "(func (export \"passes-on\")
          (drop (call $take-any))
          (memory.copy (i32.const 2208) (i32.const 112) (i32.const 48))
          (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"answers\" (i32.const 2208) (i32.const 48)
            (i32.const 0) (i32.const 0) (i32.const 64))
          (call $stays))
        (func (export \"answers\")
          (call $argument (i32.const 176))
          (memory.copy (i32.const 112) (i32.load (i32.const 176)) (i32.const 48))
          (call $answer (i32.const 5) %\"of another\"))
        (func (export \"run\")
          (call $start %\"passes-on\" (i32.const 272))
          (call $print-number (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const -1)))
          (call $print (i32.load (i32.const 2188)) (i32.load (i32.const 2192)))
          (call $must (i32.eqz (call $same (i32.const 2136) (i32.const 272))))
          (call $must (call $is-empty)))";
    prints(body, "0\nof another\n");
}

#[test]
fn replies_without_a_request() {
    // A reference without a request; one of another process; and a process that does not exist.
    main_prints(
        "(call $self (i32.const 16))
         (call $make-reference (i32.const 192))
         (call $copy-id (i32.const 16) (i32.const 112))
         (call $copy-id (i32.const 192) (i32.const 144))
         (call $answer (i32.const 5) %\"payload\")
         (i64.store (i32.const 144) (i64.const -1))
         (call $answer (i32.const 5) %\"payload\")
         (i64.store (i32.const 112) (i64.const -1))
         (call $answer (i32.const 5) %\"payload\")
         (call $must (call $is-empty))
         (call $print %\"nothing\")",
        "nothing\n",
    );
}

#[test]
fn aliases() {
    // A process gets aliases as payloads. It answers twice by each and then reports that.
    let body = "(func (export \"answers\")
          (loop $next
            (call $take (i32.const 8))
            (call $copy-id (i32.load (i32.const 164)) (i32.const 144))
            (call $answer (i32.const 5) %\"first\")
            (call $answer (i32.const 6) %\"second\")
            (call $post (i32.const 112) (i32.const 10))
            (br $next)))
        (func $answered-to (param $alias i32)
          (call $post-bytes (i32.const 272) (i32.const 8) (local.get $alias) (i32.const 16))
          (call $take (i32.const 10)))
        (func $withdraw (param $alias i32)
          (call $print-number (call $unalias (i64.load (local.get $alias)) (i64.load offset=8 (local.get $alias)))))
        (func (export \"run\")
          (call $start %\"answers\" (i32.const 272))
          (call $alias (i32.const 2208))
          (call $alias (i32.const 2224))
          (call $answered-to (i32.const 2208))
          (call $take-reference (i32.const 2208))
          (call $print-number (i32.load (i32.const 128)))
          (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168)))
          (call $must (call $same (i32.const 112) (i32.const 272)))
          (call $must (call $is-empty))
          ;; Used up, withdrawn, and withdrawn once more.
          (call $withdraw (i32.const 2208))
          (call $withdraw (i32.const 2224))
          (call $withdraw (i32.const 2224))
          (call $answered-to (i32.const 2224))
          (call $must (call $is-empty))
          ;; A message that has arrived stays.
          (call $alias (i32.const 2208))
          (call $answered-to (i32.const 2208))
          (call $withdraw (i32.const 2208))
          (call $print-number (call $take-any))
          (call $must (call $is-empty)))";
    prints(body, "5\nfirst\n0\n1\n0\n0\n5\n");
}

#[test]
fn a_call_of_oneself() {
    // The process itself does not answer; the request is a message like any other.
    main_prints(
        "(call $self (i32.const 16))
         (call $print-number (call $request (i32.const 16) (i32.const 4) %\"payload\" (i64.const 5)))
         (call $print-number (call $take-any))
         (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168)))
         ;; This answer is too late.
         (call $answer (i32.const 5) %\"answer\")
         (call $must (call $is-empty))",
        "1\n4\npayload\n",
    );
}

#[test]
fn a_process_that_waits_in_a_call_can_be_ended() {
    let body = "(func (export \"calls\")
          (call $parent (i32.const 256))
          (call $start %\"says-so\" (i32.const 272))
          (drop (call $request (i32.const 272) (i32.const 4) (i32.const 256) (i32.const 16) (i64.const -1))))
        (func (export \"says-so\")
          (drop (call $take-any))
          (call $copy-id (i32.load (i32.const 164)) (i32.const 256))
          (call $post (i32.const 256) (i32.const 7))
          (call $stays))
        (func (export \"run\")
          (call $start %\"calls\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (call $take (i32.const 7))
          (call $signal (i32.const 272) (i32.const 1))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $start %\"calls\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (call $take (i32.const 7))
          (call $signal (i32.const 272) (i32.const 3))
          (call $print-number (call $take-down-of (i32.const 192))))";
    prints(body, "1\n4\n");
}

#[test]
fn many_callers_of_one_server() {
    let body = "(func (export \"caller\")
          (local $count i32)
          (call $parent (i32.const 256))
          (call $take (i32.const 3))
          (call $copy-id (i32.load (i32.const 164)) (i32.const 272))
          (loop $again
            (i32.store (i32.const 2208) (local.get $count))
            (call $must (i32.eqz (call $request (i32.const 272) (local.get $count) (i32.const 2208) (i32.const 4) (i64.const -1))))
            (call $must (i32.eq (i32.load (i32.load (i32.const 2188))) (local.get $count)))
            (call $must (call $is-empty))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100))))
          (call $post (i32.const 256) (i32.const 7)))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"server\" (i32.const 272))
          (loop $again
            (call $start %\"caller\" (i32.const 288))
            (call $post-bytes (i32.const 288) (i32.const 3) (i32.const 272) (i32.const 16))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 200))))
          (loop $again
            (call $take (i32.const 7))
            (br_if $again (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
          (call $print %\"all of them\"))";
    prints(body, "all of them\n");
}

#[test]
fn addresses_and_cases_that_are_not_there() {
    let outside = "lies outside of the memory (0x20000 bytes)";
    let call = |to: &str, format: u32, payload: &str, timeout: u32, result: &str| {
        format!(
            "(call $start %\"server\" (i32.const 272))
             (call $call {to} (i32.const 4) (i32.const {format}) {payload} (i32.const {timeout}) (i64.const 0)
               (i32.const {result}))"
        )
    };
    let server = "(i32.const 0) (i64.load (i32.const 272)) (i64.load (i32.const 280))";
    let none = "(i32.const 0) (i32.const 0)";
    let cases = [
        (
            call("(i32.const 2) (i64.const 0) (i64.const 0)", 0, none, 0, "2128"),
            "call: 2 is no case of `destination`".to_owned(),
        ),
        (
            call("(i32.const 1) (i64.const 0x20000) (i64.const 1)", 0, none, 0, "2128"),
            format!("call: the name (address 0x20000, 1 bytes) {outside}"),
        ),
        (
            call(server, 0, "(i32.const 0x1ffff) (i32.const 2)", 0, "2128"),
            format!("call: the payload (address 0x1ffff, 2 bytes) {outside}"),
        ),
        (
            call(server, 0, none, 2, "2128"),
            "call: 2 is no case of `option`".into(),
        ),
        (
            call(server, 0, none, 0, "2132"),
            "call: the result's address 0x854 is not aligned".into(),
        ),
        (
            call(server, 0, none, 0, "0x1ffc0"),
            format!("call (address 0x1ffc0, 72 bytes) {outside}"),
        ),
        (
            "(call $reply (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i32.const 1) (i32.const 0)
               (i32.const 0) (i32.const -1))"
                .into(),
            // The host checks its size first.
            "exhausted: message".into(),
        ),
        (
            "(call $reply (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0) (i32.const 1) (i32.const 0)
               (i32.const -1) (i32.const 1))"
                .into(),
            format!("reply: the payload (address 0xffffffff, 1 bytes) {outside}"),
        ),
        (
            "(call $alias (i32.const 2212))".into(),
            "alias: the result's address 0x8a4 is not aligned".into(),
        ),
    ];
    let pieces = Guest {
        imports: TIES,
        body: TIE_FUNCTIONS,
        ..Guest::default()
    };
    check_traps(&pieces, &[], &cases);
}
