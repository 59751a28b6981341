//! Large payloads, which a sender lends until a receiver takes them. Guests must not notice, even if a process ends in
//! between.

use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES, TOOLS};

/// A buffer of 100,000 bytes at 512 KiB, which is filled and sent as a whole. Received payloads lie below it.
const LARGE: &str = "
  (func $fill (param $with i32) (memory.fill (i32.const 524288) (local.get $with) (i32.const 100000)))

  ;; Sends the buffer filled with this byte, under this tag.
  (func $post-filled (param $slot i32) (param $tag i32) (param $with i32)
    (call $fill (local.get $with))
    (call $post-bytes (local.get $slot) (local.get $tag) (i32.const 524288) (i32.const 100000)))

  ;; Is the last received event a message of 100,000 such bytes?
  (func $must-be-filled (param $with i32)
    (local $at i32) (local $end i32)
    (call $must (i32.eq (i32.load (i32.const 168)) (i32.const 100000)))
    (local.set $at (i32.load (i32.const 164)))
    (local.set $end (i32.add (local.get $at) (i32.const 100000)))
    (loop $next
      (call $must (i32.eq (i32.load8_u (local.get $at)) (local.get $with)))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $end)))))";

/// Runs this on one scheduler, where the order of turns is fixed, and on two.
#[track_caller]
fn check(body: &str, stdout: &str, crashes: usize) {
    for schedulers in ["1", "2"] {
        let guest = Guest {
            imports: &format!("{TIES} {TOOLS}"),
            memory: "(memory (export \"memory\") 16)",
            body: &format!("{TIE_FUNCTIONS} {LARGE} {body}"),
            ..Guest::default()
        };
        let outcome = Atoll::run(guest.text())
            .options([
                "--allow-debug",
                "--allow-inspect",
                "--schedulers",
                schedulers,
            ])
            .outcome();
        let outcome = outcome.code(0).stdout(stdout);
        assert_eq!(
            outcome.stderr.matches("crash: ").count(),
            crashes,
            "{outcome}"
        );
    }
}

#[test]
fn the_sender_may_overwrite_what_it_has_sent() {
    // The receiver takes each message at once, or all of them when the sender has finished.
    let body = "
        (func $takes
          (local $count i32)
          (loop $next
            (call $take (local.get $count))
            (call $must-be-filled (local.get $count))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50)))))
        (func (export \"eager\") (call $takes) (call $print %\"eager\"))
        (func (export \"late\")
          (call $take (i32.const 99))
          (call $takes)
          (call $print %\"late\"))
        (func $sends (param $slot i32)
          (local $count i32)
          (loop $next
            (call $post-filled (local.get $slot) (local.get $count) (local.get $count))
            (call $fill (i32.const 255))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50)))))
        (func (export \"run\")
          (call $start %\"eager\" (i32.const 272))
          (call $sends (i32.const 272))
          (call $await-end (i32.const 272))
          (call $start %\"late\" (i32.const 272))
          (call $sends (i32.const 272))
          (call $post (i32.const 272) (i32.const 99))
          (call $await-end (i32.const 272)))";
    check(body, "eager\nlate\n", 0);
}

#[test]
fn a_memory_that_grows_and_moves_after_sending() {
    let body = "
        (func (export \"late\")
          (call $take (i32.const 99))
          (call $take (i32.const 1))
          (call $must-be-filled (i32.const 7))
          (call $print %\"whole\"))
        (func (export \"run\")
          (call $start %\"late\" (i32.const 272))
          (call $post-filled (i32.const 272) (i32.const 1) (i32.const 7))
          (call $must (i32.ne (memory.grow (i32.const 200)) (i32.const -1)))
          (call $fill (i32.const 0))
          (call $post (i32.const 272) (i32.const 99))
          (call $await-end (i32.const 272)))";
    check(body, "whole\n", 0);
}

#[test]
fn a_large_message_outlives_its_sender() {
    for (end, crashes) in [
        ("", 0),
        ("(call $exit (i32.const 1) (i32.const 0) (i32.const 0))", 0),
        ("(unreachable)", 1),
    ] {
        let body = format!(
            "(func (export \"sender\")
               (call $parent (i32.const 256))
               (call $post-filled (i32.const 256) (i32.const 1) (i32.const 7))
               {end})
             (func (export \"run\")
               (call $start %\"sender\" (i32.const 272))
               (call $await-end (i32.const 272))
               (call $take (i32.const 1))
               (call $must-be-filled (i32.const 7))
               (call $print %\"whole\"))"
        );
        check(&body, "whole\n", crashes);
    }
}

#[test]
fn a_sender_that_is_killed_while_it_lends() {
    // The process tells the killer that it will send, and sends to main. Main looks when the killer has finished. On one
    // scheduler the sender's turn ends while it lends, and the killer's turn is next.
    let body = "
        (func (export \"killer\")
          (call $parent (i32.const 256))
          (call $take (i32.const 5))
          (call $signal (i32.const 112) (i32.const 3))
          (call $post (i32.const 256) (i32.const 6)))
        (func (export \"sender\")
          (call $parent (i32.const 256))
          (call $take (i32.const 3))
          (call $copy-id (i32.load (i32.const 164)) (i32.const 288))
          (call $fill (i32.const 7))
          (call $post (i32.const 288) (i32.const 5))
          (call $post-bytes (i32.const 256) (i32.const 1) (i32.const 524288) (i32.const 100000))
          (loop $for-ever (br $for-ever)))
        (func (export \"run\")
          (local $count i32)
          (loop $again
            (call $start %\"killer\" (i32.const 288))
            (call $start %\"sender\" (i32.const 272))
            (call $post-bytes (i32.const 272) (i32.const 3) (i32.const 288) (i32.const 16))
            (call $take (i32.const 6))
            (call $await-end (i32.const 272))
            ;; The process may have been killed before it sent.
            (if (call $poll (i32.const 1)) (then (call $must-be-filled (i32.const 7))))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 30))))
          (call $print %\"whole\"))";
    check(body, "whole\n", 0);
}

#[test]
fn a_sender_that_is_suspended_while_it_lends() {
    // With two schedulers it may have ended before.
    let body = "
        (func (export \"sender\")
          (call $parent (i32.const 256))
          (call $fill (i32.const 7))
          (call $post (i32.const 256) (i32.const 3))
          (call $post-bytes (i32.const 256) (i32.const 1) (i32.const 524288) (i32.const 100000))
          (call $fill (i32.const 0))
          (call $post (i32.const 256) (i32.const 2)))
        (func (export \"run\")
          (local $is-suspended i32)
          (call $start %\"sender\" (i32.const 272))
          (call $take (i32.const 3))
          (local.set $is-suspended
            (call $suspend (i64.load (i32.const 272)) (i64.load (i32.const 280))))
          (call $take (i32.const 1))
          (call $must-be-filled (i32.const 7))
          (if (local.get $is-suspended)
            (then (call $must (call $resume (i64.load (i32.const 272)) (i64.load (i32.const 280))))))
          (call $take (i32.const 2))
          (call $print %\"whole\"))";
    check(body, "whole\n", 0);
}

#[test]
fn receivers_that_take_nothing() {
    let body = "
        (func (export \"deaf\") (call $take (i32.const 99)))
        (func (export \"run\")
          (call $start %\"deaf\" (i32.const 272))
          (call $post-filled (i32.const 272) (i32.const 1) (i32.const 7))
          (call $post-filled (i32.const 272) (i32.const 1) (i32.const 8))
          (call $post (i32.const 272) (i32.const 99))
          (call $await-end (i32.const 272))
          ;; The receiver has ended.
          (call $post-filled (i32.const 272) (i32.const 1) (i32.const 9))
          ;; The process sends to itself.
          (call $post-filled (i32.const 16) (i32.const 1) (i32.const 10))
          (call $fill (i32.const 0))
          (call $take (i32.const 1))
          (call $must-be-filled (i32.const 10))
          (call $print %\"sent\"))";
    check(body, "sent\n", 0);
}

#[test]
fn two_that_lend_to_one_another() {
    let body = "
        (func $plays (param $slot i32)
          (local $count i32)
          (loop $next
            (call $post-filled (local.get $slot) (i32.const 1) (local.get $count))
            (call $fill (i32.const 255))
            (call $take (i32.const 1))
            (call $must-be-filled (local.get $count))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100)))))
        (func (export \"other\")
          (call $parent (i32.const 256))
          (call $plays (i32.const 256)))
        (func (export \"run\")
          (call $start %\"other\" (i32.const 272))
          (call $plays (i32.const 272))
          (call $print %\"played\"))";
    check(body, "played\n", 0);
}

#[test]
fn large_answers() {
    let body = "
        (func (export \"answers\")
          (local $count i32)
          (loop $next
            (call $take (i32.const 3))
            (call $fill (local.get $count))
            (call $reply (i64.load (i32.const 112)) (i64.load (i32.const 120))
              (i64.load (i32.const 144)) (i64.load (i32.const 152))
              (i32.const 4) (i32.const 0) (i32.const 524288) (i32.const 100000))
            (call $fill (i32.const 255))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br $next)))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"answers\" (i32.const 272))
          (loop $next
            (global.set $heap (i32.const 32768))
            ;; The answer is at the same offset as a message in an event.
            (call $call (i32.const 0) (i64.load (i32.const 272)) (i64.load (i32.const 280))
              (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
              (i32.const 0) (i64.const 0) (i32.const 104))
            (call $must (i32.eqz (i32.load8_u (i32.const 104))))
            (call $must-be-filled (local.get $count))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 20))))
          (call $print %\"answered\"))";
    check(body, "answered\n", 0);
}
