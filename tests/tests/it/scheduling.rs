//! Fairness, preemption and the count of reductions.

use atoll_tests::{Atoll, bare_guest, guest};

/// Main starts busy loops that never end, and then runs this.
fn beside_busy_loops(run: &str) -> String {
    format!(
        "(func (export \"spins\") (loop $for-ever (br $for-ever)))
         (func $spin-all
           (local $count i32)
           (loop $next
             (call $start %\"spins\" (i32.const 272))
             (br_if $next (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 8)))))
         (func (export \"run\")
           (local $count i32)
           (call $start %\"neighbour\" (i32.const 256))
           (call $spin-all)
           {run})"
    )
}

#[track_caller]
fn check_on_schedulers(body: &str, stdout: &str) {
    for schedulers in ["1", "2", "3"] {
        Atoll::run(guest(body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout(stdout)
            .stderr("");
    }
}

#[test]
fn processes_answer_while_busy_loops_occupy_every_scheduler() {
    let body = beside_busy_loops(
        "(loop $again
           (local.set $count (call $ask (i32.const 256)))
           (br_if $again (i32.lt_u (local.get $count) (i32.const 1000))))
         (call $print-number (local.get $count))",
    );
    check_on_schedulers(&body, "1000\n");
}

#[test]
fn timers_ring_while_busy_loops_occupy_every_scheduler() {
    let body = beside_busy_loops(
        "(loop $again
           (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 1) (i64.const 1000000) (i32.const 96))
           (call $must (i32.eqz (i32.load8_u (i32.const 96))))
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50))))
         (call $print-number (local.get $count))",
    );
    check_on_schedulers(&body, "50\n");
}

#[test]
fn output_is_written_while_busy_loops_occupy_every_scheduler() {
    let body = beside_busy_loops(
        "(loop $again
           (call $print-number (local.get $count))
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))",
    );
    let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
    check_on_schedulers(&body, &expected);
}

#[test]
fn processes_that_yield_and_send_are_no_more_than_their_share() {
    // Other processes than loops: some flood the neighbour's peer, some yield, some spawn. Main still gets its turns.
    let body = "(func (export \"yields\") (loop $again (call $yield-now) (br $again)))
        (func (export \"sends\")
          (call $self (i32.const 16))
          (loop $again
            (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 60000))
            (call $take (i32.const 1))
            (br $again)))
        (func (export \"leaf\"))
        (func (export \"spawns\")
          (loop $again (drop (call $try-start %\"leaf\" (i32.const 272))) (br $again)))
        (func (export \"polls\") (loop $again (drop (call $poll (i32.const 1))) (br $again)))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"neighbour\" (i32.const 256))
          (call $start %\"yields\" (i32.const 272))
          (call $start %\"sends\" (i32.const 272))
          (call $start %\"spawns\" (i32.const 272))
          (call $start %\"polls\" (i32.const 272))
          (loop $again
            (local.set $count (call $ask (i32.const 256)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 300))))
          (call $print-number (local.get $count)))";
    check_on_schedulers(body, "300\n");
}

/// A main that calls, loops, sends and spawns a number of times.
fn work(rounds: u32) -> String {
    guest(&format!(
        "(func $fib (param i32) (result i32)
           (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
             (then (local.get 0))
             (else (i32.add
               (call $fib (i32.sub (local.get 0) (i32.const 1)))
               (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
         (func (export \"run\")
           (local $count i32)
           (call $self (i32.const 16))
           (loop $again
             (drop (call $fib (i32.const 12)))
             (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 1000))
             (call $take (i32.const 1))
             (br_if $again (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {rounds})))))"
    ))
}

#[track_caller]
pub fn reductions(guest: &str, options: &[&str]) -> u64 {
    let outcome = Atoll::run(guest)
        .options(["--stats"])
        .options(options)
        .outcome()
        .code(0);
    outcome.reductions()
}

#[test]
fn reductions_are_counted_exactly() {
    let guest = work(200);
    let first = reductions(&guest, &["--schedulers", "1"]);
    assert!(first > 10_000, "{first} reductions");
    for schedulers in ["1", "1", "2", "3"] {
        let again = reductions(&guest, &["--schedulers", schedulers]);
        assert_eq!(again, first, "on {schedulers} schedulers");
    }
}

#[test]
fn where_a_slice_ends_makes_no_difference_to_the_count() {
    let guest = bare_guest(
        "(func $fib (export \"run\")
           (drop (call $number (i32.const 20))))
         (func $number (param i32) (result i32)
           (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
             (then (local.get 0))
             (else (i32.add
               (call $number (i32.sub (local.get 0) (i32.const 1)))
               (call $number (i32.sub (local.get 0) (i32.const 2)))))))",
    );
    let first = reductions(&guest, &[]);
    // 21,891 calls for the 20th number by the naive recursion, and main's own.
    assert!((21_891..21_900).contains(&first), "{first} reductions");
    for slice in ["1", "7", "1000000"] {
        assert_eq!(
            reductions(&guest, &["--reductions", slice]),
            first,
            "{slice}"
        );
    }
}

#[test]
fn loops_are_counted_whichever_way_they_are_left() {
    // 100 iterations leave the loops in turn at the end, by a branch out of two loops, by a table, and by a return.
    let guest = bare_guest(
        "(func $many (param $way i32) (result i32)
           (local $outer i32) (local $inner i32)
           (block $out
             (loop $first
               (local.set $inner (i32.const 0))
               (loop $second
                 (local.set $inner (i32.add (local.get $inner) (i32.const 1)))
                 (if (i32.and (i32.eq (local.get $way) (i32.const 3))
                              (i32.eq (local.get $inner) (i32.const 5)))
                   (then (return (local.get $inner))))
                 (br_if $out (i32.and (i32.eq (local.get $way) (i32.const 1))
                                      (i32.eq (local.get $inner) (i32.const 5))))
                 (block $on
                   (br_table $on $on $out $on
                     (i32.mul (local.get $way) (i32.eq (local.get $inner) (i32.const 5)))))
                 (br_if $second (i32.lt_u (local.get $inner) (i32.const 5))))
               (local.set $outer (i32.add (local.get $outer) (i32.const 1)))
               (br_if $first (i32.lt_u (local.get $outer) (i32.const 2)))))
           (local.get $inner))
         (func (export \"run\") (local $round i32) (local $sum i32)
           (loop $again
             (local.set $sum (i32.add (local.get $sum)
               (call $many (i32.and (local.get $round) (i32.const 3)))))
             (br_if $again (i32.lt_u
               (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 100))))
           (if (i32.ne (local.get $sum) (i32.const 500)) (then (unreachable))))",
    );
    // A call and an edge for each iteration. A quarter of the iterations run two iterations of the first loop and ten of the
    // second, and the others run one and five. And the call of the export.
    let expected = 100 * 2 + 25 * (2 + 10) + 75 * (1 + 5) + 1;
    for slice in ["1", "7", "50", "4000"] {
        assert_eq!(
            reductions(&guest, &["--reductions", slice]),
            expected,
            "{slice}"
        );
    }
}

#[test]
fn each_loop_edge_and_call_is_one_reduction() {
    let run = |body: &str| {
        let guest = bare_guest(&format!(
            "(func $leaf) (func (export \"run\") (local $count i32) {body})"
        ));
        reductions(&guest, &[])
    };
    let rounds = |count: u32, inside: &str| {
        run(&format!(
            "(loop $again {inside}
               (br_if $again (i32.lt_u
                 (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {count}))))"
        ))
    };
    assert_eq!(rounds(2000, "") - rounds(1000, ""), 1000);
    assert_eq!(
        rounds(2000, "(call $leaf)") - rounds(1000, "(call $leaf)"),
        2000
    );
    // Straight-line code is free, and so are branches forward.
    let straight = "(drop (i32.add (i32.const 1) (i32.const 2)))".repeat(50);
    assert_eq!(rounds(2000, &straight) - rounds(1000, &straight), 1000);
    let forward = "(block $out (br_if $out (local.get $count)) (br $out))";
    assert_eq!(rounds(2000, forward) - rounds(1000, forward), 1000);
    let choice = "(if (i32.and (local.get $count) (i32.const 1)) (then (call $leaf)))";
    assert_eq!(rounds(2000, choice) - rounds(1000, choice), 1500);
}

#[test]
fn large_code_and_bulk_operations_cost_by_their_size() {
    let run = |fields: &str, body: &str| {
        let guest = bare_guest(&format!("{fields} (func (export \"run\") {body})"));
        reductions(&guest, &[])
    };
    let nothing = run("", "");
    // 3000 instructions, and the end: 1 for each 256.
    let large = "(nop)".repeat(3000);
    assert_eq!(run("", &large) - nothing, 11);
    // A process pays for those of a loop in each iteration.
    let rounds = "(local $count i32) (loop $again (br_if $again
        (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100)))";
    assert_eq!(run("", &format!("{rounds} )")) - nothing, 100);
    assert_eq!(run("", &format!("{rounds} {large} )")) - nothing, 1200);
    // A byte costs a sixty-fourth, an element of a table costs one. An instruction that the rewriter turns into a call costs
    // one more, a call of wasmtime's library eight, and an instruction that grows something sixty-four.
    let fill = |bytes: u32| {
        run(
            "",
            &format!("(memory.fill (i32.const 0) (i32.const 0) (i32.const {bytes}))"),
        )
    };
    assert_eq!(fill(63) - nothing, 1);
    assert_eq!(fill(6400) - nothing, 101);
    let table = "(table $table 2000 funcref) (elem $elements func) (data $data \"0123456789\")";
    for (operation, cost) in [
        (
            "(table.fill $table (i32.const 0) (ref.null func) (i32.const 1000))",
            1008,
        ),
        (
            "(table.copy $table $table (i32.const 0) (i32.const 1) (i32.const 1000))",
            1008,
        ),
        (
            "(drop (table.grow $table (ref.null func) (i32.const 1000)))",
            1064,
        ),
        (
            "(table.init $table $elements (i32.const 0) (i32.const 0) (i32.const 0))",
            8,
        ),
        (
            "(memory.init $data (i32.const 0) (i32.const 0) (i32.const 10))",
            18,
        ),
    ] {
        assert_eq!(run(table, operation) - nothing, cost, "{operation}");
    }
}

#[test]
fn a_large_message_costs_more_than_a_small_one() {
    let rounds = |bytes: u32| {
        let guest = bare_guest(&format!(
            "(func (export \"run\")
               (call $self (i32.const 16))
               (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const {bytes}))
               (call $take (i32.const 1)))"
        ));
        reductions(&guest, &[])
    };
    assert!(rounds(64_000) >= rounds(0) + 1000);
}

#[test]
fn counters_at_the_end() {
    let body = "(func (export \"worker\") unreachable)
        (func (export \"run\")
          (call $start %\"neighbour\" (i32.const 256))
          ;; The process has had a turn before the inspection.
          (drop (call $ask (i32.const 256)))
          (call $start %\"worker\" (i32.const 272))
          (call $await-end (i32.const 272)))";
    let outcome = Atoll::run(guest(body))
        .options(["--stats", "--schedulers", "2"])
        .outcome()
        .code(0)
        // The table lists the processes that are left.
        .stderr_has(" take-any ")
        .stderr_has("stats: 3 processes spawned, 0 left, 1 crashed, ")
        .stderr_has("\n  scheduler 0: ")
        .stderr_has("\n  scheduler 1: ");
    assert!(!outcome.stderr.contains("scheduler 2"), "{outcome}");
}

#[test]
fn a_thousand_processes_take_turns() {
    // Each process passes a token on as often as there are processes, one after the other, on every number of schedulers.
    let body = "(func (export \"member\")
          (call $parent (i32.const 256))
          (loop $next
            (drop (call $take-any))
            (call $post (i32.const 256) (i32.const 1))
            (br $next)))
        (func (export \"run\")
          (local $count i32) (local $slot i32)
          (local.set $slot (i32.const 0x10000))
          (loop $next
            (call $start %\"member\" (local.get $slot))
            (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
          (local.set $slot (i32.const 0x10000))
          (loop $next
            (call $post (local.get $slot) (i32.const 1))
            (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
            (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
          (loop $next
            (drop (call $take-any))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
          (call $print-number (local.get $count)))";
    check_on_schedulers(body, "1000\n");
}
