//! `memory.fill`, `memory.copy` and similar instructions: the loader cuts large ones into pieces, and the guest must not
//! notice.

use crate::offenders::{Offender, check_with};
use atoll_tests::{Atoll, Guest};
use std::fmt::Write;

/// Four MiB.
const MEMORY: &str = "(memory (export \"memory\") 64)";
/// The address where the operations work, behind the prelude's data.
const BASE: u32 = 1 << 20;
/// The number of bytes from there on.
const BYTES: u32 = 2 << 20;
/// The size of the loader's pieces.
const PIECE: u32 = 256 << 10;

/// Fills the range with a pattern that depends on the address, and compares each byte with its expected value.
const PATTERN: &str = "
    (func $pattern (param $at i32) (result i32)
      (i32.shr_u (i32.mul (local.get $at) (i32.const 0x9e3779b1)) (i32.const 24)))
    (func $prepare
      (local $at i32)
      (local.set $at (i32.const 1048576))
      (loop $next
        (i32.store8 (local.get $at) (call $pattern (local.get $at)))
        (br_if $next (i32.lt_u
          (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 3145728)))))

    ;; A byte outside of the operation's range.
    (func $untouched (param $at i32) (param $to i32) (param $bytes i32) (result i32)
      (i32.ge_u (i32.sub (local.get $at) (local.get $to)) (local.get $bytes)))

    (func $check-copy (param $to i32) (param $from i32) (param $bytes i32)
      (local $at i32) (local $source i32)
      (call $prepare)
      (memory.copy (local.get $to) (local.get $from) (local.get $bytes))
      (local.set $at (i32.const 1048576))
      (loop $next
        (local.set $source (local.get $at))
        (if (i32.eqz (call $untouched (local.get $at) (local.get $to) (local.get $bytes)))
          (then (local.set $source
            (i32.add (local.get $from) (i32.sub (local.get $at) (local.get $to))))))
        (call $must (i32.eq (i32.load8_u (local.get $at)) (call $pattern (local.get $source))))
        (br_if $next (i32.lt_u
          (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 3145728)))))

    (func $check-fill (param $to i32) (param $value i32) (param $bytes i32)
      (local $at i32) (local $expected i32)
      (call $prepare)
      (memory.fill (local.get $to) (local.get $value) (local.get $bytes))
      (local.set $at (i32.const 1048576))
      (loop $next
        (local.set $expected (i32.and (local.get $value) (i32.const 255)))
        (if (call $untouched (local.get $at) (local.get $to) (local.get $bytes))
          (then (local.set $expected (call $pattern (local.get $at)))))
        (call $must (i32.eq (i32.load8_u (local.get $at)) (local.get $expected)))
        (br_if $next (i32.lt_u
          (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 3145728)))))";

/// Lengths around a piece and its multiples.
const LENGTHS: [u32; 9] = [
    0,
    1,
    PIECE - 1,
    PIECE,
    PIECE + 1,
    2 * PIECE - 1,
    2 * PIECE,
    2 * PIECE + 1,
    5 * PIECE + 77,
];

#[track_caller]
fn check(calls: &str) {
    let guest = Guest {
        memory: MEMORY,
        body: &format!("{PATTERN} (func (export \"run\") {calls} (call $print %\"right\"))"),
        ..Guest::default()
    };
    Atoll::run(guest.text())
        .outcome()
        .code(0)
        .stdout("right\n")
        .stderr("");
}

#[test]
fn fill() {
    let mut calls = String::new();
    for bytes in LENGTHS {
        let _ = write!(
            calls,
            "(call $check-fill (i32.const {}) (i32.const {}) (i32.const {bytes}))",
            BASE + 13,
            0x1a5
        );
    }
    check(&calls);
}

#[test]
fn copy_of_overlapping_ranges_to_higher_addresses() {
    check_copies(|distance| (BASE + 5, BASE + 5 + distance));
}

#[test]
fn copy_of_overlapping_ranges_to_lower_addresses() {
    check_copies(|distance| (BASE + 5 + distance, BASE + 5));
}

/// Copies between ranges, at every distance that makes a difference.
#[track_caller]
fn check_copies(range: impl Fn(u32) -> (u32, u32)) {
    let mut calls = String::new();
    for bytes in LENGTHS {
        for distance in [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3] {
            let (from, to) = range(distance);
            assert!(from.max(to) + bytes <= BASE + BYTES);
            let _ = write!(
                calls,
                "(call $check-copy (i32.const {to}) (i32.const {from}) (i32.const {bytes}))"
            );
        }
    }
    check(&calls);
}

#[test]
fn bulk_operations_out_of_bounds() {
    let trap = "trap: wasm trap: out of bounds memory access";
    let bodies = [
        "(memory.fill (i32.const 0x3ffff0) (i32.const 1) (i32.const 17))",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x400001))",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const -1))",
        "(memory.fill (i32.const 0x400001) (i32.const 1) (i32.const 0))",
        "(memory.fill (i32.const -1) (i32.const 1) (i32.const -1))",
        "(memory.copy (i32.const 0x300000) (i32.const 0) (i32.const 0x100001))",
        "(memory.copy (i32.const 0) (i32.const 0x300000) (i32.const 0x100001))",
        "(memory.copy (i32.const 0) (i32.const 0) (i32.const -1))",
        "(memory.copy (i32.const 1) (i32.const -1) (i32.const -1))",
        "(memory.copy (i32.const -1) (i32.const 1) (i32.const 0x40000))",
    ];
    let names: Vec<String> = (0..bodies.len())
        .map(|index| format!("case-{index}"))
        .collect();
    let offenders: Vec<Offender<'_>> = names
        .iter()
        .zip(bodies)
        .map(|(name, body)| Offender {
            name,
            body,
            reason: trap,
        })
        .collect();
    let pieces = Guest {
        memory: MEMORY,
        ..Guest::default()
    };
    check_with(&pieces, &[], &offenders);
}

/// A process works long and then tells main. Meanwhile main takes eight turns, which is little beside the work, and must not
/// have got the message yet. Then it waits.
#[track_caller]
fn check_is_preempted(declarations: &str, operation: &str) {
    let body = format!(
        "{declarations}
         (func (export \"worker\")
           (call $parent (i32.const 256))
           {operation}
           (call $post (i32.const 256) (i32.const 5)))
         (func (export \"run\")
           (local $turns i32)
           (call $start %\"worker\" (i32.const 272))
           (loop $turn
             (call $yield-now)
             (if (call $poll (i32.const 5))
               (then (call $print %\"the worker was never interrupted\") (return)))
             (br_if $turn (i32.lt_u
               (local.tee $turns (i32.add (local.get $turns) (i32.const 1))) (i32.const 8))))
           (call $take (i32.const 5))
           (call $print %\"the worker is ready\"))"
    );
    // On one scheduler, main and the worker take turns.
    Atoll::run(atoll_tests::guest(&body))
        .options(["--schedulers", "1"])
        .outcome()
        .code(0)
        .stdout("the worker is ready\n")
        .stderr("");
}

const GROW: &str = "(call $must (i32.ne (i32.const -1) (memory.grow (i32.const 1024))))";

#[test]
fn large_fills_are_preempted() {
    check_is_preempted(
        "",
        &format!("{GROW} (memory.fill (i32.const 0x10000) (i32.const 1) (i32.const 0x4000000))"),
    );
}

#[test]
fn large_copies_are_preempted() {
    check_is_preempted(
        "",
        &format!(
            "{GROW} (memory.copy (i32.const 0x10000) (i32.const 0x10010) (i32.const 0x3ffffff))
             (memory.copy (i32.const 0x10010) (i32.const 0x10000) (i32.const 0x3ffffff))"
        ),
    );
}

#[test]
fn large_operations_on_other_memories_are_preempted() {
    let second = "(memory $second 1025)";
    check_is_preempted(
        second,
        "(memory.fill $second (i32.const 0) (i32.const 1) (i32.const 0x4000000))",
    );
    check_is_preempted(
        second,
        "(memory.copy $second $second (i32.const 0) (i32.const 16) (i32.const 0x4000000))",
    );
    check_is_preempted(
        second,
        &format!(
            "{GROW} (memory.copy $second 0 (i32.const 0) (i32.const 0) (i32.const 0x4000000))"
        ),
    );
}

/// One operation after the other, without a call or a loop between them: more work than fits into main's few turns.
fn repeated(operation: &str) -> String {
    operation.repeat(100)
}

#[test]
fn large_operations_on_tables_are_preempted() {
    let table = "(table $table 1000000 funcref)";
    check_is_preempted(
        table,
        &repeated("(table.fill $table (i32.const 0) (ref.null func) (i32.const 1000000))"),
    );
    check_is_preempted(
        table,
        &repeated("(table.copy $table $table (i32.const 0) (i32.const 1) (i32.const 999999))"),
    );
}

#[test]
fn large_initializations_of_memory_are_preempted() {
    let segment = format!("(data $segment \"{}\")", "x".repeat(1 << 20));
    check_is_preempted(
        &segment,
        &format!(
            "{GROW} {}",
            repeated(
                "(memory.init $segment (i32.const 0x10000) (i32.const 0) (i32.const 0x100000))"
            )
        ),
    );
}

#[test]
fn fills_beside_a_neighbour() {
    // A process on every scheduler fills memory without end, and the neighbour still answers.
    let body = format!(
        "(func (export \"filler\")
           {GROW}
           (loop $again
             (memory.fill (i32.const 0x10000) (i32.const 1) (i32.const 0x4000000))
             (memory.copy (i32.const 0x10010) (i32.const 0x10000) (i32.const 0x3f00000))
             (br $again)))
         (func (export \"run\")
           (local $count i32)
           (call $start %\"neighbour\" (i32.const 256))
           (call $start %\"filler\" (i32.const 272))
           (call $start %\"filler\" (i32.const 272))
           (call $start %\"filler\" (i32.const 272))
           (loop $again
             (local.set $count (call $ask (i32.const 256)))
             (br_if $again (i32.lt_u (local.get $count) (i32.const 20))))
           (call $print-number (local.get $count)))"
    );
    for schedulers in ["1", "2"] {
        Atoll::run(atoll_tests::guest(&body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("20\n")
            .stderr("");
    }
}
