//! Monitors: the down-signal of an end arrives whole and in order.

use crate::signals::{main_prints, prints};

#[test]
fn monitors_tell_of_an_end_once_each() {
    main_prints(
        "(call $start %\"stays\" (i32.const 272))
         (call $watch (i32.const 272) (i32.const 2208))
         (call $watch (i32.const 272) (i32.const 2224))
         (call $watch (i32.const 272) (i32.const 2240))
         (call $must (i32.eqz (call $same (i32.const 2208) (i32.const 2224))))
         (call $must (i32.eqz (call $same (i32.const 2224) (i32.const 2240))))
         (call $print-number (call $unwatch (i32.const 2224) (i32.const 0)))
         (call $print-number (call $unwatch (i32.const 2224) (i32.const 0)))
         (call $signal-bytes (i32.const 272) %\"the reason\")
         (call $print-number (call $take-down-of (i32.const 2240)))
         (call $print (i32.load (i32.const 156)) (i32.load (i32.const 160)))
         (call $must (i32.eqz (i32.load8_u (i32.const 128))))
         (call $must (call $same (i32.const 136) (i32.const 272)))
         (call $print-number (call $take-down-of (i32.const 2208)))
         (call $must (call $is-empty))
         ;; A monitor of a dead process fires at once, each time.
         (call $watch (i32.const 272) (i32.const 2208))
         (call $print-number (call $take-down-of (i32.const 2208)))
         (call $watch (i32.const 272) (i32.const 2208))
         (call $must (call $same (i32.const 136) (i32.const 272)))
         (call $print-number (call $take-down-of (i32.const 2208)))
         ;; The same for a process that never existed.
         (i64.store (i32.const 272) (i64.const 0x123456789abcdef))
         (call $watch (i32.const 272) (i32.const 2208))
         (call $print-number (call $take-down-of (i32.const 2208)))
         (call $must (call $same (i32.const 136) (i32.const 272)))
         (call $must (call $is-empty))",
        "1\n0\n10\nthe reason\n10\n5\n5\n5\n",
    );
}

#[test]
fn demonitoring_and_signals_that_have_arrived() {
    main_prints(
        "(call $start %\"stays\" (i32.const 272))
         ;; A monitor that is removed in time.
         (call $watch (i32.const 272) (i32.const 2208))
         (call $print-number (call $unwatch (i32.const 2208) (i32.const 1)))
         (call $watch (i32.const 272) (i32.const 2208))
         (call $print-number (call $unwatch (i32.const 2208) (i32.const 0)))
         (call $watch (i32.const 272) (i32.const 2208))
         (call $watch (i32.const 272) (i32.const 2224))
         (call $end (i32.const 272))
         (call $must (call $is-one-of-three))
         ;; A monitor that has fired already: its signal stays, or is flushed.
         (call $watch (i32.const 272) (i32.const 2208))
         (call $watch (i32.const 272) (i32.const 2224))
         (call $print-number (call $unwatch (i32.const 2208) (i32.const 0)))
         (call $print-number (call $unwatch (i32.const 2224) (i32.const 1)))
         (call $print-number (call $take-down))
         (call $must (call $same (i32.const 112) (i32.const 2208)))
         (call $must (call $is-empty))
         ;; A monitor whose signal was received, and none at all.
         (call $print-number (call $unwatch (i32.const 2208) (i32.const 1)))
         (call $make-reference (i32.const 192))
         (call $print-number (call $unwatch (i32.const 192) (i32.const 1)))
         ;; A flush removes no other event with this reference.
         (call $self (i32.const 16))
         (call $send (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 3) (i32.const 1)
           (i64.load (i32.const 192)) (i64.load (i32.const 200)) (i32.const 0) (i32.const 0) (i32.const 0))
         (call $print-number (call $unwatch (i32.const 192) (i32.const 1)))
         (call $print-number (call $take-any)))
       ;; `$end` has taken its own signal. The two earlier signals have come before it.
       (func $is-one-of-three (result i32)
         (drop (call $take-down-of (i32.const 2224)))
         (drop (call $take-down-of (i32.const 2208)))
         (call $is-empty)",
        "1\n1\n0\n0\n5\n0\n0\n0\n3\n",
    );
}

#[test]
fn monitors_by_name() {
    main_prints(
        "(call $watch-name %\"nobody\" (i32.const 2208))
         (call $print-number (call $take-down-of (i32.const 2208)))
         (call $print-number (i32.load8_u (i32.const 128)))
         (call $print (i32.load (i32.const 136)) (i32.load (i32.const 140)))
         (call $start %\"stays\" (i32.const 272))
         (call $start %\"stays\" (i32.const 288))
         (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 272))))
         (call $watch-name %\"one\" (i32.const 2208))
         ;; The name goes to another process. The monitor stays with the first one.
         (call $must (call $unregister %\"one\"))
         (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 288))))
         (call $end (i32.const 288))
         (call $must (call $is-empty))
         (call $signal (i32.const 272) (i32.const 1))
         (call $print-number (call $take-down-of (i32.const 2208)))
         (call $print-number (i32.load8_u (i32.const 128)))
         (call $print (i32.load (i32.const 136)) (i32.load (i32.const 140)))
         (call $must (call $is-empty))",
        "5\n1\nnobody\n1\n1\none\n",
    );
}

#[test]
fn monitors_of_oneself_mean_nothing() {
    main_prints(
        "(call $self (i32.const 16))
         (call $watch (i32.const 16) (i32.const 2208))
         (call $must (i32.eq (i32.const -1) (call $name %\"me\" (i32.const 16))))
         (call $watch-name %\"me\" (i32.const 2224))
         (call $must (i32.eqz (call $same (i32.const 2208) (i32.const 2224))))
         (drop (call $unwatch (i32.const 2208) (i32.const 0)))
         (call $must (call $is-empty))
         (call $print %\"done\")",
        "done\n",
    );
}

#[test]
fn reasons_and_names_arrive_whole() {
    // A name of 255 bytes, and a reason of 100,000 bytes, each of which depends on its offset.
    let body = "(func (export \"run\")
          (local $at i32)
          (drop (memory.grow (i32.const 10)))
          (loop $next
            (i32.store8 offset=0x50000 (local.get $at) (i32.rem_u (local.get $at) (i32.const 251)))
            (br_if $next (i32.lt_u
              (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 100000))))
          (memory.fill (i32.const 0x10000) (i32.const 98) (i32.const 255))
          (call $trap-exits)
          (call $start %\"stays\" (i32.const 272))
          (call $link-to (i32.const 272))
          (call $must (i32.eq (i32.const -1)
            (call $name (i32.const 0x10000) (i32.const 255) (i32.const 272))))
          (call $watch-name (i32.const 0x10000) (i32.const 255) (i32.const 2208))
          (call $signal-bytes (i32.const 272) (i32.const 0x50000) (i32.const 100000))
          (call $print-number (call $take-down-of (i32.const 2208)))
          (call $print (i32.load (i32.const 136)) (i32.load (i32.const 140)))
          (call $check (i32.load (i32.const 156)) (i32.load (i32.const 160)))
          (call $print-number (call $take-exit))
          (call $check (i32.load (i32.const 132)) (i32.load (i32.const 136)))
          ;; An empty reason arrives empty.
          (call $start %\"stays\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 2208))
          (call $signal-bytes (i32.const 272) (i32.const 0) (i32.const 0))
          (call $print-number (call $take-down-of (i32.const 2208)))
          (call $print-number (i32.load (i32.const 160))))
        (func $check (param $from i32) (param $bytes i32)
          (local $at i32)
          (call $must (i32.eq (local.get $bytes) (i32.const 100000)))
          (loop $next
            (call $must (i32.eq (i32.load8_u (i32.add (local.get $from) (local.get $at)))
              (i32.rem_u (local.get $at) (i32.const 251))))
            (br_if $next (i32.lt_u
              (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 100000)))))";
    prints(body, &format!("10\n{}\n10\n10\n0\n", "b".repeat(255)));
}

#[test]
fn messages_of_a_process_arrive_before_its_down_signal() {
    let body = "(func (export \"sends\")
          (local $count i32)
          (call $parent (i32.const 256))
          (call $link-to (i32.const 256))
          (loop $next
            (call $post (i32.const 256) (i32.const 3))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000)))))
        (func (export \"run\")
          (local $round i32) (local $count i32) (local $ends i32)
          (call $trap-exits)
          (loop $round
            (call $start %\"sends\" (i32.const 272))
            (call $watch (i32.const 272) (i32.const 2208))
            (local.set $count (i32.const 0))
            (local.set $ends (i32.const 0))
            (loop $next
              (drop (call $take-any))
              (if (i32.load8_u (i32.const 104))
                (then
                  (local.set $ends (i32.add (local.get $ends) (i32.const 1)))
                  (call $must (i32.eq (local.get $count) (i32.const 1000))))
                (else (local.set $count (i32.add (local.get $count) (i32.const 1)))))
              (br_if $next (i32.lt_u (local.get $ends) (i32.const 2))))
            (br_if $round (i32.lt_u
              (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 20))))
          (call $print %\"in order\"))";
    prints(body, "in order\n");
}
