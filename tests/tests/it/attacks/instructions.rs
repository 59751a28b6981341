//! Instructions of proposals, in modules and in components: the host runs them right or refuses them by name, and gives the
//! same answer when it only inspects them. No instruction ends the host.

use super::{Became, became, component, ran_or_refused, valid};
use atoll_tests::{Atoll, Outcome};

/// A name, and fields of a module whose `run` returns on success and traps on failure.
type Case = (&'static str, &'static str);

/// Asks `atoll inspect` whether a file would run.
#[track_caller]
fn inspected(bytes: &[u8], what: &str) -> Became {
    let outcome = Atoll::inspect(bytes).outcome();
    let runs = |outcome: &Outcome| {
        !outcome.stdout.contains("none: it can't be run")
            && !outcome.stdout.contains("NOT PROVIDED")
    };
    match outcome.code {
        Some(0) if runs(&outcome) => Became::Ran,
        Some(0) => Became::Refused,
        Some(1) if outcome.stderr.contains("` can't be loaded: ") => Became::Refused,
        _ => panic!("{what}: it is neither shown nor refused\n{outcome}"),
    }
}

/// Runs each case behind the declarations, as a module and as a component, and inspects it. Reports all faults together.
#[track_caller]
fn check(declarations: &str, cases: &[Case]) {
    check_texts(cases.iter().flat_map(|(name, fields)| {
        let fields = format!("{declarations} {fields}");
        [
            (format!("module {name}"), format!("(module {fields})")),
            (format!("component {name}"), component(&fields, &["run"])),
        ]
    }));
}

#[track_caller]
fn check_texts(texts: impl Iterator<Item = (String, String)>) {
    check_guests(texts.map(|(name, text)| (name, valid(text))));
}

#[track_caller]
fn check_guests(guests: impl Iterator<Item = (String, Vec<u8>)>) {
    let mut wrong = Vec::new();
    for (name, bytes) in guests {
        let outcome = Atoll::run(&bytes).outcome();
        let Some(became) = became(&outcome, 0) else {
            wrong.push(format!("{name}: it neither ran nor was refused\n{outcome}"));
            continue;
        };
        let inspected = inspected(&bytes, &name);
        if inspected != became {
            wrong.push(format!(
                "{name}: inspect says {inspected:?}, but it was {became:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Function types, some of which are subtypes of others, a function of each type, and a table of them.
const SUBTYPES: &str = "
    (type $plain (func))
    (type $base (sub (func))) (type $sub (sub $base (func))) (type $final (sub final $sub (func)))
    (func $b (type $base)) (func $s (type $sub)) (func $f (type $final))
    (table $t 4 funcref)
    (elem (table $t) (i32.const 0) func $b $s $f)
    (elem declare func $b $s $f)
    (func $must (param i32) (if (i32.eqz (local.get 0)) (then (unreachable))))";

#[test]
fn function_subtyping() {
    check(
        SUBTYPES,
        &[
            ("types", "(func (export \"run\") (type $plain))"),
            (
                "call_indirect",
                "(func (export \"run\") (type $plain)
               (call_indirect $t (type $base) (i32.const 0))
               (call_indirect $t (type $base) (i32.const 1))
               (call_indirect $t (type $base) (i32.const 2))
               (call_indirect $t (type $sub) (i32.const 2)))",
            ),
            (
                "call_indirect-of-a-table-that-changes",
                "(func (export \"run\") (type $plain)
               (table.set $t (i32.const 3) (ref.func $f))
               (call_indirect $t (type $base) (i32.const 3)))",
            ),
            (
                "return_call_indirect",
                "(func $tail (type $plain) (return_call_indirect $t (type $base) (i32.const 1)))
             (func (export \"run\") (type $plain) (call $tail))",
            ),
            (
                "call_ref",
                "(func (export \"run\") (type $plain) (call_ref $base (ref.func $f)))",
            ),
            (
                "return_call_ref",
                "(func (export \"run\") (type $plain) (return_call_ref $base (ref.func $f)))",
            ),
            (
                "ref.cast",
                "(func (export \"run\") (type $plain) (drop (ref.cast (ref $base) (ref.func $f))))",
            ),
            (
                "ref.cast-down",
                "(func (export \"run\") (type $plain)
               (drop (ref.cast (ref $sub) (table.get $t (i32.const 2)))))",
            ),
            (
                "ref.cast-of-null",
                "(func (export \"run\") (type $plain)
               (drop (ref.cast (ref null $sub) (table.get $t (i32.const 3)))))",
            ),
            (
                "ref.test",
                "(func (export \"run\") (type $plain)
               (call $must (ref.test (ref $base) (ref.func $s)))
               (call $must (ref.test (ref $sub) (table.get $t (i32.const 2))))
               (call $must (i32.eqz (ref.test (ref $sub) (table.get $t (i32.const 0)))))
               (call $must (i32.eqz (ref.test (ref $sub) (table.get $t (i32.const 3)))))
               (call $must (ref.test (ref null $sub) (table.get $t (i32.const 3)))))",
            ),
            (
                "ref.test-of-abstract-types",
                "(func (export \"run\") (type $plain)
               (call $must (ref.test (ref func) (table.get $t (i32.const 0))))
               (call $must (i32.eqz (ref.test (ref func) (table.get $t (i32.const 3)))))
               (call $must (i32.eqz (ref.test (ref nofunc) (table.get $t (i32.const 0))))))",
            ),
            (
                "br_on_cast",
                "(func (export \"run\") (type $plain)
               (drop (block $out (result (ref $sub))
                 (drop (br_on_cast $out funcref (ref $sub) (table.get $t (i32.const 2))))
                 (unreachable)))
               (drop (block $out (result (ref $sub))
                 (drop (br_on_cast $out (ref null $base) (ref $sub) (ref.func $b)))
                 (return)))
               (unreachable))",
            ),
            (
                "br_on_cast_fail",
                "(func (export \"run\") (type $plain)
               (drop (block $out (result funcref)
                 (drop (br_on_cast_fail $out funcref (ref $sub) (table.get $t (i32.const 0))))
                 (unreachable)))
               (drop (block $out (result funcref)
                 (drop (br_on_cast_fail $out funcref (ref $sub) (table.get $t (i32.const 1))))
                 (return)))
               (unreachable))",
            ),
            (
                "globals",
                "(global $g (mut (ref null $base)) (ref.func $f))
             (func (export \"run\") (type $plain) (call_ref $base (global.get $g)))",
            ),
        ],
    );
    check("", &[
        ("recursive-types",
            "(rec (type $a (func)) (type $b (func (param (ref null $a)))))
             (func $f (type $a)) (table funcref (elem $f))
             (func (export \"run\") (call_indirect (type $a) (i32.const 0)))"),
        ("recursive-subtypes",
            "(rec (type $a (sub (func (result (ref null $a))))) (type $b (sub $a (func (result (ref null $b))))))
             (func $f (type $b) (ref.null $b)) (table funcref (elem $f))
             (func (export \"run\") (drop (call_indirect (type $a) (i32.const 0))))"),
        ("start-function",
            "(type $p (func)) (type $b (sub (func))) (type $c (sub $b (func)))
             (func $f (type $c)) (table funcref (elem $f))
             (func $s (call_indirect (type $b) (i32.const 0))) (start $s)
             (func (export \"run\") (type $p))"),
        ("exported-functions-of-subtypes",
            "(type $p (func)) (type $b (sub (func)))
             (func (export \"other\") (type $b)) (func (export \"run\") (type $p))"),
        ("structural-super-type",
            "(type $p (func)) (type $a (sub (func (param (ref $p)) (result (ref null $p)))))
             (type $b (sub $a (func (param (ref null $p)) (result (ref $p)))))
             (func $g (type $p)) (func $f (type $b) (ref.func $g)) (elem declare func $g)
             (table funcref (elem $f))
             (func (export \"run\") (type $p)
               (drop (call_indirect (type $a) (ref.func $g) (i32.const 0))))"),
    ]);
}

#[test]
fn objects() {
    check("", &[
        ("types", "(type $s (struct (field i32))) (func (export \"run\"))"),
        ("struct",
            "(type $s (struct (field (mut i32)) (field (mut i8))))
             (func (export \"run\") (local $o (ref null $s))
               (local.set $o (struct.new $s (i32.const 1) (i32.const 2)))
               (struct.set $s 0 (local.get $o) (i32.const 7))
               (if (i32.ne (struct.get $s 0 (local.get $o)) (i32.const 7)) (then (unreachable)))
               (if (i32.ne (struct.get_s $s 1 (local.get $o)) (i32.const 2)) (then (unreachable)))
               (drop (struct.get_u $s 1 (struct.new_default $s))))"),
        ("array",
            "(type $a (array (mut i32))) (data $d \"abcdefgh\")
             (func (export \"run\") (local $o (ref null $a))
               (local.set $o (array.new $a (i32.const 7) (i32.const 3)))
               (array.set $a (local.get $o) (i32.const 1) (i32.const 8))
               (array.fill $a (local.get $o) (i32.const 0) (i32.const 9) (i32.const 1))
               (array.copy $a $a (local.get $o) (i32.const 2) (local.get $o) (i32.const 0) (i32.const 1))
               (array.init_data $a $d (local.get $o) (i32.const 0) (i32.const 0) (i32.const 1))
               (if (i32.ne (array.len (local.get $o)) (i32.const 3)) (then (unreachable)))
               (if (i32.ne (array.get $a (local.get $o) (i32.const 2)) (i32.const 9)) (then (unreachable)))
               (drop (array.new_default $a (i32.const 3)))
               (drop (array.new_fixed $a 2 (i32.const 1) (i32.const 2)))
               (drop (array.new_data $a $d (i32.const 0) (i32.const 1))))"),
        ("array-of-references",
            "(type $a (array (mut funcref))) (func $f) (elem $e func $f)
             (func (export \"run\")
               (drop (array.new_elem $a $e (i32.const 0) (i32.const 1)))
               (array.init_elem $a $e (array.new_default $a (i32.const 1))
                 (i32.const 0) (i32.const 0) (i32.const 1)))"),
        ("i31",
            "(func (export \"run\")
               (if (i32.ne (i31.get_s (ref.i31 (i32.const -7))) (i32.const -7)) (then (unreachable)))
               (if (i32.ne (i31.get_u (ref.i31 (i32.const 7))) (i32.const 7)) (then (unreachable))))"),
        ("i31-in-globals-and-tables",
            "(global $g (mut i31ref) (ref.i31 (i32.const 7)))
             (table $t 2 i31ref (ref.i31 (i32.const 8)))
             (func (export \"run\")
               (table.set $t (i32.const 0) (global.get $g))
               (if (i32.ne (i31.get_u (table.get $t (i32.const 0))) (i32.const 7)) (then (unreachable))))"),
        ("eq",
            "(func (export \"run\")
               (if (i32.eqz (ref.eq (ref.i31 (i32.const 7)) (ref.i31 (i32.const 7)))) (then (unreachable)))
               (if (ref.eq (ref.null eq) (ref.i31 (i32.const 7))) (then (unreachable))))"),
        ("any",
            "(func (export \"run\") (local $a anyref)
               (local.set $a (ref.i31 (i32.const 7)))
               (if (i32.eqz (ref.test (ref i31) (local.get $a))) (then (unreachable)))
               (if (ref.test (ref struct) (local.get $a)) (then (unreachable)))
               (drop (ref.cast (ref i31) (local.get $a))))"),
        ("br_on_cast-of-any",
            "(func (export \"run\")
               (drop (block $out (result (ref i31))
                 (drop (br_on_cast $out anyref (ref i31) (ref.i31 (i32.const 7))))
                 (unreachable))))"),
        ("none", "(func (export \"run\") (drop (ref.null none)) (drop (ref.null any)) (drop (ref.null eq)))"),
        ("bottoms", "(func (export \"run\") (drop (ref.null nofunc)) (drop (ref.null noextern)))"),
        ("extern", "(func (export \"run\") (local externref) (drop (ref.is_null (local.get 0))))"),
        ("extern-in-tables-and-globals",
            "(table $t 1 externref) (global $g (mut externref) (ref.null extern))
             (func (export \"run\")
               (table.set $t (i32.const 0) (global.get $g))
               (drop (table.grow $t (ref.null extern) (i32.const 10)))
               (table.fill $t (i32.const 0) (ref.null extern) (i32.const 1)))"),
        ("extern.convert_any",
            "(func (export \"run\")
               (drop (extern.convert_any (ref.i31 (i32.const 7))))
               (drop (any.convert_extern (ref.null extern))))"),
        ("extern-there-and-back",
            "(func (export \"run\")
               (if (i32.ne (i31.get_u (ref.cast (ref i31)
                     (any.convert_extern (extern.convert_any (ref.i31 (i32.const 7)))))) (i32.const 7))
                 (then (unreachable))))"),
        ("constant-expressions",
            "(type $s (struct (field i32))) (global $g (ref $s) (struct.new $s (i32.const 7)))
             (func (export \"run\")
               (if (i32.ne (struct.get $s 0 (global.get $g)) (i32.const 7)) (then (unreachable))))"),
        ("objects-without-end",
            "(type $s (struct (field (ref null $s))))
             (func (export \"run\") (local $o (ref null $s)) (local $count i32)
               (loop $again
                 (local.set $o (struct.new $s (local.get $o)))
                 (br_if $again (i32.lt_u
                   (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000)))))"),
    ]);
}

#[test]
fn exceptions() {
    check(
        "",
        &[
            ("tag", "(tag $t) (func (export \"run\"))"),
            (
                "try_table-without-tag",
                "(func (export \"run\") (block $h (try_table (catch_all $h))))",
            ),
            (
                "throw-caught",
                "(tag $t) (func $f (throw $t))
             (func (export \"run\") (block $h (try_table (catch $t $h) (call $f)) (unreachable)))",
            ),
            (
                "payload",
                "(tag $t (param i32))
             (func (export \"run\")
               (if (i32.ne (i32.const 7)
                     (block $h (result i32)
                       (try_table (catch $t $h) (throw $t (i32.const 7))) (unreachable)))
                 (then (unreachable))))",
            ),
            (
                "throw_ref",
                "(tag $t)
             (func (export \"run\")
               (block $all
                 (try_table (catch_all $all)
                   (throw_ref (block $h (result exnref)
                     (try_table (catch_all_ref $h) (throw $t)) (unreachable))))
                 (unreachable)))",
            ),
            (
                "catch_ref",
                "(tag $t)
             (func (export \"run\")
               (drop (block $h (result exnref)
                 (try_table (catch_ref $t $h) (throw $t)) (unreachable))))",
            ),
            (
                "exnref",
                "(func (export \"run\") (drop (ref.null exn)) (drop (ref.null noexn)))",
            ),
            (
                "exnref-in-globals",
                "(global $g (mut exnref) (ref.null exn)) (func (export \"run\"))",
            ),
            (
                "trap-in-try_table",
                "(func (export \"run\")
               (block $h (try_table (catch_all $h) (br $h))))",
            ),
        ],
    );
}

#[test]
fn exceptions_of_the_first_kind() {
    // The text format has no form for them any more: `(try (do (throw 0)) (catch_all))` in the only function, which is `run`.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0d\x03\x01\0\0\
        \x07\x07\x01\x03run\0\0\x0a\x0a\x01\x08\0\x06\x40\x08\0\x19\x0b\x0b";
    check_guests([("module legacy".to_owned(), valid(MODULE))].into_iter());
}

#[test]
fn threads() {
    check(
        "",
        &[
            (
                "shared-memory",
                "(memory 1 1 shared) (func (export \"run\") (i32.store (i32.const 0) (i32.const 1)))",
            ),
            (
                "atomics-on-shared-memory",
                "(memory 1 1 shared)
             (func (export \"run\")
               (i32.atomic.store (i32.const 0) (i32.const 6))
               (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
               (drop (i64.atomic.rmw.cmpxchg (i32.const 8) (i64.const 0) (i64.const 1)))
               (if (i32.ne (i32.atomic.load (i32.const 0)) (i32.const 7)) (then (unreachable))))",
            ),
            (
                "atomics-on-a-memory-that-is-not-shared",
                "(memory 1)
             (func (export \"run\")
               (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 7)))
               (drop (i32.atomic.rmw8.xchg_u (i32.const 4) (i32.const 7)))
               (if (i32.ne (i32.atomic.load (i32.const 0)) (i32.const 7)) (then (unreachable))))",
            ),
            ("fence", "(func (export \"run\") (atomic.fence))"),
            (
                "notify",
                "(memory 1 1 shared) (func (export \"run\") (drop (memory.atomic.notify (i32.const 0) (i32.const 1))))",
            ),
            (
                "wait",
                "(memory 1 1 shared)
             (func (export \"run\")
               (drop (memory.atomic.wait32 (i32.const 0) (i32.const 1) (i64.const -1)))
               (drop (memory.atomic.wait64 (i32.const 8) (i64.const 1) (i64.const -1))))",
            ),
            (
                "shared-global",
                "(global $g (shared mut i32) (i32.const 0)) (func (export \"run\"))",
            ),
            (
                "shared-type",
                "(type $p (func)) (type $f (shared (func))) (func (export \"run\") (type $p))",
            ),
        ],
    );
}

#[test]
fn sizes_and_numbers() {
    check("", &[
        ("memory64",
            "(memory i64 1)
             (func (export \"run\")
               (i64.store (i64.const 65528) (i64.const 7))
               (if (i64.ne (i64.load (i64.const 65528)) (i64.const 7)) (then (unreachable))))"),
        ("memory64-beside-a-memory32",
            "(memory $a 1) (memory $b i64 1)
             (func (export \"run\") (memory.copy $a $b (i32.const 0) (i64.const 0) (i32.const 8)))"),
        ("table64",
            "(table $t i64 2 funcref) (func $f) (elem (table $t) (i64.const 0) func $f) (type $p (func))
             (func (export \"run\")
               (drop (table.get $t (i64.const 1)))
               (call_indirect $t (type $p) (i64.const 0)))"),
        ("bytes-as-pages",
            "(memory $m 7 (pagesize 1))
             (func (export \"run\")
               (i32.store8 (i32.const 6) (i32.const 7))
               (if (i32.ne (memory.size $m) (i32.const 7)) (then (unreachable)))
               (if (i32.ne (memory.grow $m (i32.const 3)) (i32.const 7)) (then (unreachable))))"),
        ("usual-pages", "(memory 1 (pagesize 0x10000)) (func (export \"run\") (i32.store (i32.const 0) (i32.const 1)))"),
        ("wide-arithmetic",
            "(func (export \"run\") (local $low i64) (local $high i64)
               (i64.add128 (i64.const -1) (i64.const 0) (i64.const 1) (i64.const 0))
               (local.set $high) (local.set $low)
               (if (i64.ne (local.get $high) (i64.const 1)) (then (unreachable)))
               (i64.sub128 (local.get $low) (local.get $high) (i64.const 1) (i64.const 0))
               (drop) (drop)
               (i64.mul_wide_u (i64.const -1) (i64.const -1)) (drop) (drop)
               (i64.mul_wide_s (i64.const -1) (i64.const -1)) (drop) (drop))"),
        ("relaxed-simd",
            "(func (export \"run\")
               (drop (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 1 2 3 4)))
               (drop (f32x4.relaxed_madd (v128.const f32x4 1 2 3 4) (v128.const f32x4 1 2 3 4)
                 (v128.const f32x4 1 2 3 4)))
               (drop (i8x16.relaxed_swizzle (v128.const i64x2 1 2) (v128.const i64x2 1 2))))"),
        ("several-memories",
            "(memory $a 1) (memory $b 1)
             (func (export \"run\")
               (i32.store $b (i32.const 0) (i32.const 7))
               (memory.copy $a $b (i32.const 8) (i32.const 0) (i32.const 4))
               (if (i32.ne (i32.load $a (i32.const 8)) (i32.const 7)) (then (unreachable))))"),
        ("extended-constants",
            "(global $g i32 (i32.add (i32.const 3) (i32.mul (i32.const 2) (i32.const 2))))
             (func (export \"run\") (if (i32.ne (global.get $g) (i32.const 7)) (then (unreachable))))"),
        ("tail-calls",
            "(func $down (param i32) (result i32)
               (if (result i32) (local.get 0)
                 (then (return_call $down (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 7))))
             (func (export \"run\")
               (if (i32.ne (call $down (i32.const 1000000)) (i32.const 7)) (then (unreachable))))"),
        ("tables-with-initializers",
            "(func $f) (table $t 3 (ref func) (ref.func $f)) (type $p (func))
             (func (export \"run\") (call_indirect $t (type $p) (i32.const 2)))"),
    ]);
}

#[test]
fn continuations() {
    const TYPES: &str = "(type $f (func)) (type $c (cont $f)) (tag $t)
        (func $plain (type $f)) (func $suspends (type $f) (suspend $t)) (elem declare func $plain $suspends)";
    let cases: [Case; 6] = [
        ("types", "(func (export \"run\") (type $f))"),
        (
            "resume",
            "(func (export \"run\") (type $f) (resume $c (cont.new $c (ref.func $plain))))",
        ),
        (
            "suspend",
            "(func (export \"run\") (type $f)
               (drop (block $h (result (ref $c))
                 (resume $c (on $t $h) (cont.new $c (ref.func $suspends)))
                 (unreachable))))",
        ),
        (
            "resume_throw",
            "(func (export \"run\") (type $f)
               (block $h (try_table (catch_all $h)
                 (resume_throw $c $t (cont.new $c (ref.func $plain))))))",
        ),
        (
            "cont.bind",
            "(type $g (func (param i32))) (type $d (cont $g)) (func $takes (type $g)) (elem declare func $takes)
             (func (export \"run\") (type $f)
               (resume $c (cont.bind $d $c (i32.const 7) (cont.new $d (ref.func $takes)))))",
        ),
        (
            "null",
            "(func (export \"run\") (type $f) (drop (ref.null cont)) (drop (ref.null nocont)))",
        ),
    ];
    check(TYPES, &cases);
}

#[test]
fn descriptors() {
    check("", &[
        ("types",
            "(rec (type $a (descriptor $b) (struct (field i32))) (type $b (describes $a) (struct)))
             (func (export \"run\"))"),
        ("struct.new_desc",
            "(rec (type $a (descriptor $b) (struct (field i32))) (type $b (describes $a) (struct)))
             (func (export \"run\")
               (drop (struct.new_desc $a (i32.const 7) (struct.new $b)))
               (drop (ref.get_desc $a (struct.new_default_desc $a (struct.new $b)))))"),
        ("exact",
            "(type $p (func)) (type $b (sub (func))) (func $f (type $b)) (elem declare func $f)
             (func (export \"run\") (type $p) (local (ref null (exact $b))) (local.set 0 (ref.func $f)))"),
    ]);
}

/// Components have more built-in functions than lifting and lowering, and those two have several forms.
#[test]
fn functions_that_only_components_have() {
    const BUILT_IN: [(&str, &str); 13] = [
        ("canon task.cancel", ""),
        ("canon backpressure.inc", ""),
        ("canon backpressure.dec", ""),
        ("canon waitable-set.new", "(result i32)"),
        ("canon waitable-set.drop", "(param i32)"),
        ("canon waitable.join", "(param i32 i32)"),
        ("canon subtask.drop", "(param i32)"),
        ("canon subtask.cancel", "(param i32) (result i32)"),
        ("canon context.get i32 0", "(result i32)"),
        ("canon context.set i32 0", "(param i32)"),
        ("canon thread.yield", "(result i32)"),
        ("canon thread.index", "(result i32)"),
        ("canon error-context.drop", "(param i32)"),
    ];
    check_texts(BUILT_IN.into_iter().flat_map(|(canon, signature)| {
        let text = |call: &str| {
            format!(
                "(component
                   (import \"wasi:random/random@0.2.0\" (instance))
                   (core func $built-in ({canon}))
                   (core module $m
                     (import \"\" \"built-in\" (func $f {signature}))
                     (func (export \"run\") {call}))
                   (core instance $i (instantiate $m
                     (with \"\" (instance (export \"built-in\" (func $built-in))))))
                   (func (export \"run\") (canon lift (core func $i \"run\"))))"
            )
        };
        // Calling it may trap, as with invalid handles. So it stands behind a return.
        let operands = "(i32.const 0)".repeat(signature.matches("i32").count());
        let operands = match signature.contains("result") {
            true => operands.replacen("(i32.const 0)", "", 1),
            false => operands,
        };
        let call = match signature.contains("result") {
            true => format!("(return) (drop (call $f {operands}))"),
            false => format!("(return) (call $f {operands})"),
        };
        [
            (format!("{canon} imported"), text("")),
            (format!("{canon} mentioned"), text(&call)),
        ]
    }));
    const LIFTS: [(&str, &str); 3] = [
        (
            "async-type",
            "(func (export \"run\") async (canon lift (core func $i \"run\")))",
        ),
        (
            "async-callback",
            "(func (export \"run\") async (canon lift (core func $i \"code\") async (callback (core func $i \"callback\"))))",
        ),
        (
            "async",
            "(func (export \"run\") async (canon lift (core func $i \"run\") async))",
        ),
    ];
    check_texts(LIFTS.into_iter().map(|(name, lift)| {
        let text = format!(
            "(component
               (import \"wasi:random/random@0.2.0\" (instance))
               (core module $m
                 (func (export \"run\")) (func (export \"code\") (result i32) (i32.const 0))
                 (func (export \"callback\") (param i32 i32 i32) (result i32) (i32.const 0)))
               (core instance $i (instantiate $m))
               {lift})"
        );
        (format!("lift {name}"), text)
    }));
}

#[test]
fn casts_and_calls_that_fail_are_the_guest_s_own_traps_or_refused() {
    for (run, trap) in [
        (
            "(func (export \"run\") (type $plain) (call_indirect $t (type $sub) (i32.const 0)))",
            "indirect call type mismatch",
        ),
        (
            "(func (export \"run\") (type $plain)
                   (return_call_indirect $t (type $final) (i32.const 1)))",
            "indirect call type mismatch",
        ),
        (
            "(func (export \"run\") (type $plain)
                   (drop (ref.cast (ref $sub) (table.get $t (i32.const 0)))))",
            "cast failure",
        ),
        (
            "(func (export \"run\") (type $plain)
                   (drop (ref.cast (ref $base) (table.get $t (i32.const 3)))))",
            "cast failure",
        ),
    ] {
        let fields = format!("{SUBTYPES} {run}");
        for text in [format!("(module {fields})"), component(&fields, &["run"])] {
            let outcome = Atoll::run(valid(text)).outcome();
            if outcome.code == Some(134) {
                outcome.crash("run", &format!("trap: wasm trap: {trap}"));
            } else {
                assert_eq!(ran_or_refused(&outcome, 0), Became::Refused, "{outcome}");
            }
        }
    }
}

#[test]
fn a_loop_that_is_left_by_a_cast_is_counted_or_refused() {
    // A million iterations, in stretches of a thousand; the cast leaves each stretch.
    let text = "(module (type $f (func)) (elem declare func $g) (func $g)
        (func (export \"run\") (local $all i32) (local $count i32) (local $r funcref)
          (loop $outer
            (local.set $count (i32.const 0)) (local.set $r (ref.null func))
            (drop (block $out (result (ref $f))
              (loop $inner
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (if (i32.eq (local.get $count) (i32.const 1000)) (then (local.set $r (ref.func $g))))
                (drop (br_on_cast $out funcref (ref $f) (local.get $r)))
                (br $inner))
              (unreachable)))
            (br_if $outer (i32.lt_u
              (local.tee $all (i32.add (local.get $all) (i32.const 1))) (i32.const 1000))))))";
    let outcome = Atoll::run(valid(text)).option("--stats").outcome();
    if outcome.code == Some(0) {
        let reductions = outcome.reductions();
        assert!(reductions >= 1_000_000, "only {reductions} were counted");
    } else {
        assert_eq!(ran_or_refused(&outcome, 0), Became::Refused, "{outcome}");
    }
}
