//! The loader rewrites modules. A guest can't see that from inside, for any module.

use crate::prints;
use atoll_tests::{Atoll, Guest, guest};

#[test]
fn imports_are_functions_like_any_other() {
    // Called through a table, by reference, as a tail call, under a second name, and exported again.
    let body = "
        (type $receiver (func (param i32 i64 i64 i32 i64 i32)))
        (type $unit (func))
        (table $table funcref (elem $receive $yield-now $self))
        (global $reference (ref $receiver) (ref.func $receive))
        (export \"again\" (func $receive))
        (func $take-by-table
          (call_indirect $table (type $receiver)
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 96) (i32.const 0)))
        (func $take-by-reference
          (call_ref $receiver
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 96)
            (global.get $reference)))
        (func $take-by-tail-call
          (return_call $receive
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 96)))
        (func $take-by-second-name
          (call $receive-2
            (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 96)))
        (func $show
          (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168))))
        (func (export \"run\")
          (call $self (i32.const 16))
          (call $post-bytes (i32.const 16) (i32.const 1) %\"by table\")
          (call $post-bytes (i32.const 16) (i32.const 1) %\"by reference\")
          (call $post-bytes (i32.const 16) (i32.const 1) %\"by tail call\")
          (call $post-bytes (i32.const 16) (i32.const 1) %\"by second name\")
          (call $take-by-table) (call $show)
          (call $take-by-reference) (call $show)
          (call $take-by-tail-call) (call $show)
          (call $take-by-second-name) (call $show)
          (call_indirect $table (type $unit) (i32.const 1)))";
    let text = Guest {
        imports: "(import \"atoll-rt:process/mailbox@0.2.0\" \"receive\"
            (func $receive-2 (param i32 i64 i64 i32 i64 i32)))",
        body,
        ..Guest::default()
    }
    .text();
    Atoll::run(text)
        .outcome()
        .code(0)
        .stdout("by table\nby reference\nby tail call\nby second name\n")
        .stderr("");
}

#[test]
fn instructions_of_every_kind_survive() {
    let body = "
        (type $a (func (param i32) (result i32))) (type $b (func (result i64 i64)))
        (func $double (type $a) (i32.mul (local.get 0) (i32.const 2)))
        (func $two (type $b) (i64.const 20) (i64.const 22))
        (func $sum (result i64) (call $two) (i64.add))
        (table $functions 2 funcref)
        (elem $passive func $double)
        (data $passive \"forty-two\")
        (func (export \"run\")
          (table.init $functions $passive (i32.const 1) (i32.const 0) (i32.const 1))
          (elem.drop $passive)
          (call $print-number (call_indirect $functions (type $a) (i32.const 21) (i32.const 1)))
          (call $print-number (i32.wrap_i64 (call $sum)))
          (memory.init $passive (i32.const 1024) (i32.const 0) (i32.const 9))
          (data.drop $passive)
          (call $print (i32.const 1024) (i32.const 9))
          (call $print-number (i32x4.extract_lane 1
            (i32x4.add (v128.const i32x4 1 20 3 4) (v128.const i32x4 4 22 2 1))))
          (call $print-number (i32.trunc_sat_f64_u (f64.sqrt (f64.const 1764)))))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("42\n42\nforty-two\n42\n42\n")
        .stderr("");
}

/// Functions that return their number and their arguments, in a table. Some elements of the table are filled twice, some are
/// left empty, and some hold a function of another type.
const BY_TABLE: &str = "
    (type $unary (func (param i32) (result i32)))
    (type $same (func (param i32) (result i32)))
    (type $unit (func))
    (type $many (func (param i32 i64 f32 f64 i32 i64 i32 i64 i32 i64) (result i64 i32)))
    (type $entry (func (param i32) (result i64)))
    (func $ten (type $unary) (i32.add (local.get 0) (i32.const 10)))
    (func $twenty (type $same) (i32.add (local.get 0) (i32.const 20)))
    (func $long (param i32) (result i64) (i64.extend_i32_u (local.get 0)))
    (func $shout (call $print %\"shout\"))
    (func $many (type $many)
      (i64.add (local.get 9) (i64.extend_i32_u (local.get 0)))
      (i32.add (i32.trunc_f64_s (local.get 3)) (local.get 8)))
    (table $table 8 9 funcref)
    (elem (table $table) (i32.const 0) func $ten $ten $shout $long)
    (elem (table $table) (i32.const 1) func $twenty)
    (elem (table $table) (i32.const 6) funcref (item ref.null func) (item ref.func $many))
    (elem (table $table) (i32.const 8) func)
    (func $tail (param i32) (result i32)
      (return_call_indirect $table (type $unary) (i32.const 5) (local.get 0)))
    (func $tail-unit (param i32)
      (return_call_indirect $table (type $unit) (local.get 0)))";

/// Reasons to keep a table as it is: none, code that changes it, and code that refers to functions.
const KEEPERS: [&str; 4] = [
    "",
    "(func (table.set $table (i32.const 4) (table.get $table (i32.const 4))))",
    "(func (drop (table.size $table)))",
    "(export \"ten\" (func $ten)) (func (drop (ref.func $ten)))",
];

#[test]
fn calls_by_table_find_their_functions() {
    let run = "(func (export \"run\") (local $count i32)
        (call $print-number (call_indirect $table (type $unary) (i32.const 1) (i32.const 0)))
        (call $print-number (call_indirect $table (type $same) (i32.const 2) (i32.const 0)))
        (call $print-number (call_indirect $table (type $unary) (i32.const 3) (i32.const 1)))
        (call $print-number (call $tail (i32.const 1)))
        (call_indirect $table (type $unit) (i32.const 2))
        (call $tail-unit (i32.const 2))
        (call $print-number
          (i32.wrap_i64 (call_indirect $table (type $entry) (i32.const 7) (i32.const 3))))
        (call_indirect $table (type $many)
          (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4) (i32.const 5) (i64.const 6) (i32.const 7)
          (i64.const 8) (i32.const 9) (i64.const 10) (i32.const 7))
        (call $print-number)
        (call $print-number (i32.wrap_i64)))";
    for keeper in KEEPERS {
        Atoll::run(guest(&format!("{BY_TABLE} {keeper} {run}")))
            .outcome()
            .code(0)
            .stdout("11\n12\n23\n25\nshout\nshout\n7\n13\n11\n")
            .stderr("");
    }
}

#[test]
fn calls_by_table_trap_as_ever() {
    let calls = [
        (
            "(drop (call_indirect $table (type $unary) (i32.const 1) (i32.const 4)))",
            "uninitialized element",
        ),
        (
            "(call_indirect $table (type $unit) (i32.const 6))",
            "uninitialized element",
        ),
        (
            "(call_indirect $table (type $unit) (i32.const 0))",
            "indirect call type mismatch",
        ),
        (
            "(call $tail-unit (i32.const 3))",
            "indirect call type mismatch",
        ),
        (
            "(drop (call_indirect $table (type $unary) (i32.const 1) (i32.const 2)))",
            "indirect call type mismatch",
        ),
        (
            "(drop (call_indirect $table (type $entry) (i32.const 1) (i32.const 2)))",
            "indirect call type mismatch",
        ),
        (
            "(drop (call_indirect $table (type $entry) (i32.const 1) (i32.const 0)))",
            "indirect call type mismatch",
        ),
        (
            "(call_indirect $table (type $unit) (i32.const 8))",
            "undefined element: out of bounds table access",
        ),
        (
            "(call_indirect $table (type $unit) (i32.const -1))",
            "undefined element: out of bounds table access",
        ),
        (
            "(call $tail-unit (i32.const 0x10000))",
            "undefined element: out of bounds table access",
        ),
    ];
    for (call, trap) in calls {
        for keeper in &KEEPERS[..2] {
            let text = guest(&format!(
                "{BY_TABLE} {keeper} (func (export \"run\") {call})"
            ));
            let outcome = Atoll::run(text).outcome().code(134);
            outcome.crash("run", &format!("trap: wasm trap: {trap}"));
        }
    }
}

#[test]
fn tables_that_code_changes_hold_its_changes() {
    let body = "
        (type $unary (func (param i32) (result i32)))
        (func $ten (type $unary) (i32.add (local.get 0) (i32.const 10)))
        (func $twenty (type $unary) (i32.add (local.get 0) (i32.const 20)))
        (table $table (export \"table\") 2 funcref)
        (elem (i32.const 0) func $ten $twenty)
        (func $show (param i32)
          (call $print-number (call_indirect $table (type $unary) (i32.const 0) (local.get 0))))
        (func (export \"run\")
          (call $show (i32.const 0))
          (table.copy (i32.const 0) (i32.const 1) (i32.const 1))
          (call $show (i32.const 0))
          (call $print-number (table.grow $table (ref.func $ten) (i32.const 1)))
          (call $show (i32.const 2))
          (table.set $table (i32.const 1) (ref.func $ten))
          (call $show (i32.const 1))
          (table.fill $table (i32.const 0) (table.get $table (i32.const 2)) (i32.const 1))
          (call $show (i32.const 0)))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("10\n20\n2\n10\n10\n10\n")
        .stderr("");
    // Elements that do not fit into the table are an error when the host makes the instance.
    let body = "(table 1 funcref) (func $f) (elem (i32.const 1) func $f) (func (export \"run\"))";
    Atoll::run(guest(body))
        .outcome()
        .code(1)
        .stdout("")
        .stderr_has("out of bounds table access");
}

#[test]
fn branch_hints_of_a_module_are_dropped() {
    // The hints are for places without a branch, and for a function that does not exist.
    let hinted = "(func $hinted (param i32) (result i32)
        (block $out
          (@metadata.code.branch_hint \"\\00\") (br_if $out (local.get 0))
          (call $print %\"zero\"))
        (@metadata.code.branch_hint \"\\01\")
        (if (result i32) (local.get 0) (then (i32.const 7)) (else (i32.const 8))))
      (func (export \"run\")
        (call $print-number (call $hinted (i32.const 0)))
        (call $print-number (call $hinted (i32.const 1))))";
    let custom =
        "(@custom \"metadata.code.branch_hint\" (after last) \"\\01\\ff\\ff\\03\\01\\05\\01\\00\")";
    for fields in [hinted.to_owned(), format!("{hinted} {custom}")] {
        Atoll::run(guest(&fields))
            .outcome()
            .code(0)
            .stdout("zero\n8\n7\n")
            .stderr("");
    }
}

#[test]
fn unsupported_proposals_are_refused_by_name() {
    for (module, name) in [
        (
            "(memory (export \"memory\") i64 1) (func (export \"run\"))",
            "memory64",
        ),
        (
            "(memory (export \"memory\") 1 1 shared) (func (export \"run\"))",
            "threads",
        ),
        (
            "(type $array (array (mut i8)))
             (func (export \"run\") (drop (array.new $array (i32.const 1) (i32.const 1000))))",
            "gc",
        ),
        (
            "(tag $tag) (func (export \"run\") (throw $tag))",
            "exceptions",
        ),
        (
            "(memory 1 (pagesize 1)) (func (export \"run\"))",
            "custom page sizes",
        ),
        (
            "(type $f (func)) (type $c (cont $f)) (func (export \"run\"))",
            "stack switching",
        ),
    ] {
        Atoll::run(format!("(module {module})"))
            .outcome()
            .code(1)
            .stdout("")
            .stderr_has("can't be loaded: the module ")
            .stderr_has(name)
            .stderr_has("\n  hint: ");
    }
}

#[test]
fn every_way_to_go_on_for_ever_is_preempted() {
    // There is one of each, and the neighbour answers in between.
    let body = "
        (type $unit (func))
        (table $table funcref (elem $by-table $by-mutual-calls))
        (func $by-branch (export \"by-branch\") (loop $again (br $again)))
        (func $by-condition (export \"by-condition\") (loop $again (br_if $again (i32.const 1))))
        (func $by-branch-table (export \"by-branch-table\") (loop $again (br_table $again $again (i32.const 0))))
        (func $by-null (export \"by-null\") (loop $again (br_on_null $again (ref.null func)) (drop)))
        (func $by-tail-call (export \"by-tail-call\") (return_call $by-tail-call))
        (func $by-table (export \"by-table\")
          (return_call_indirect $table (type $unit) (i32.const 0)))
        (func $by-reference (export \"by-reference\")
          (return_call_ref $unit (ref.func $by-reference)))
        (func $by-mutual-calls (export \"by-mutual-calls\") (return_call $other))
        (func $other (return_call $by-mutual-calls))
        (func $leaf)
        (func (export \"by-calls\") (loop $again (call $leaf) (call $leaf) (br $again)))
        (func $deep (param i32)
          (if (local.get 0)
            (then
              (call $deep (i32.sub (local.get 0) (i32.const 1)))
              (call $deep (i32.sub (local.get 0) (i32.const 1))))))
        (func (export \"by-recursion\") (call $deep (i32.const 60)))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"neighbour\" (i32.const 256))
          (call $start %\"by-branch\" (i32.const 272))
          (call $start %\"by-condition\" (i32.const 272))
          (call $start %\"by-branch-table\" (i32.const 272))
          (call $start %\"by-null\" (i32.const 272))
          (call $start %\"by-tail-call\" (i32.const 272))
          (call $start %\"by-table\" (i32.const 272))
          (call $start %\"by-reference\" (i32.const 272))
          (call $start %\"by-mutual-calls\" (i32.const 272))
          (call $start %\"by-calls\" (i32.const 272))
          (call $start %\"by-recursion\" (i32.const 272))
          (loop $again
            (local.set $count (call $ask (i32.const 256)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 100))))
          (call $print-number (local.get $count)))";
    for schedulers in ["1", "2"] {
        Atoll::run(guest(body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("100\n")
            .stderr("");
    }
}

#[test]
fn preemption_is_not_seen_from_inside() {
    // A long computation gives the same result for every length of the slice: locals, operands and memory survive each pause.
    let body = "(local $state i64) (local $round i32)
        (local.set $state (i64.const 1))
        (loop $again
          (local.set $state (i64.add
            (i64.mul (local.get $state) (i64.const 6364136223846793005))
            (i64.extend_i32_u (local.get $round))))
          (i64.store (i32.const 1024) (i64.xor (i64.load (i32.const 1024)) (local.get $state)))
          (br_if $again (i32.lt_u
            (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 100000))))
        (call $print-number (i32.wrap_i64 (i64.shr_u (i64.load (i32.const 1024)) (i64.const 32))))";
    let text = guest(&format!("(func (export \"run\") {body})"));
    let (mut state, mut memory) = (1u64, 0u64);
    for round in 0..100_000u64 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round);
        memory ^= state;
    }
    let expected = format!("{}\n", memory >> 32);
    for slice in ["1", "13", "4000", "1000000"] {
        Atoll::run(&text)
            .options(["--reductions", slice])
            .outcome()
            .code(0)
            .stdout(&expected);
    }
    prints(body, &expected);
}

#[test]
fn large_modules() {
    let functions: String = (0..20_000)
        .map(|index| format!("(func (result i32) (i32.const {index}))\n"))
        .collect();
    let globals = "(global i32 (i32.const 1))".repeat(5_000);
    let locals = format!("(local {})", "i64 ".repeat(10_000));
    let body = format!(
        "{globals} (func $many-locals {locals})
         (func (export \"run\") (call $many-locals) (call $print %\"right\")) {functions}"
    );
    Atoll::run(guest(&body)).outcome().code(0).stdout("right\n");

    // The last of the most functions that can be spawned, and one more.
    let exported = |count: u32| -> String {
        let function = |index: u32| {
            format!("(func (export \"f{index}\") (call $print-number (i32.const {index})))\n")
        };
        (1..count).map(function).collect()
    };
    let run = "(func (export \"run\") (call $start %\"f49998\" (i32.const 272)) (call $await-end (i32.const 272)))";
    Atoll::run(guest(&format!("{run} {}", exported(49_999))))
        .outcome()
        .code(0)
        .stdout("49998\n");
    Atoll::run(guest(&format!("{run} {}", exported(50_000))))
        .outcome()
        .code(1)
        .stderr_has("it exports 50001 functions that can be spawned; the limit is 50000");
}
