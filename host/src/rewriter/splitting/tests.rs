//! Splits large functions of many shapes and checks the results.

use super::*;
use crate::rewriter::Analysis;
use std::fmt::Write;

/// Splits a module that has a function with this code and another function. Checks that the result is valid.
fn split_code(code: &str) -> Option<Vec<u8>> {
    let text = format!(
        "(module
           (import \"\" \"\" (func $imported (param i32) (result i32)))
           (memory 1)
           (func $large (param $a i32) (param $b i64) (result i32) (local $c i32) (local $d funcref) {code})
           (func $other (param i32)))"
    );
    let bytes = wat::parse_str(text).expect("the text is a module");
    let split = split(&bytes).expect("it is valid");
    if let Some(split) = &split {
        let analysis = Analysis::read(split).expect("it is valid when it is split");
        assert!(analysis.largest_body < Analysis::read(&bytes).expect("it is valid").largest_body);
    }
    split
}

/// Repeats the text until its code is too large for an unsplit function. One repetition has `bytes` bytes of code.
fn many(text: &str, bytes: usize) -> String {
    text.repeat(BODY_BYTES_MAX / bytes * 3 / 2)
}

fn largest(code: &str) -> usize {
    let split = split_code(code).expect("it is split");
    Analysis::read(&split).expect("it is valid").largest_body
}

#[test]
fn small_functions_stay_as_they_are() {
    assert!(split_code("(local.get 0)").is_none());
}

#[test]
fn calls_and_loops_in_a_row_become_pieces() {
    // A piece may exceed its limit by a few instructions.
    let about = PIECE_BYTES + 4096;
    assert!(largest(&(many("(call $other (i32.const 1))", 4) + "(i32.const 0)")) < about);
    let loops = many("(loop (br_if 0 (local.get $c)))", 7);
    assert!(largest(&(loops.clone() + "(i32.const 0)")) < about);
    // The cutter finds statements at any depth.
    let nested = format!(
        "(block (loop (if (local.get $a) (then {loops}) (else {loops})) (br_if 1 (local.get $a)) (br 0))) (local.get $c)"
    );
    assert!(largest(&nested) < about);
    let sets = many(
        "(local.set $c (i32.add (local.get $c) (local.get $a))) (local.set $b (i64.const 3))",
        11,
    );
    assert!(largest(&(sets + "(local.get $c)")) < about);
    let references = many("(local.set $d (ref.null func))", 4);
    assert!(largest(&(references + "(local.get $c)")) < about);
}

#[test]
fn pieces_lie_in_pieces() {
    // Each level alone has enough statements for a piece.
    let statement =
        "(local.set $c (i32.add (local.get $c) (i32.const 1)))".repeat(PIECE_BYTES / 20);
    let mut code = String::new();
    for _ in 0..30 {
        code = format!("{statement} (block {code} {statement})");
    }
    assert!(largest(&(code + "(local.get $c)")) < 2 * PIECE_BYTES);
}

#[test]
fn code_that_cannot_be_a_piece_stays() {
    // These statements branch out or return, or the operand stack is never empty.
    for statement in [
        "(br_if 0 (local.get $a))",
        "(if (local.get $a) (then (return (local.get $a))))",
    ] {
        let code = format!("(block {}) (local.get $a)", many(statement, 4));
        assert!(split_code(&code).is_none(), "{statement}");
    }
    let code = format!("(local.get $a) {}", many("(call $imported)", 2));
    assert!(split_code(&code).is_none());
    // Unreachable code is not cut.
    assert!(split_code(&format!("unreachable {}", many("(i32.const 1) drop", 3))).is_none());
}

#[test]
fn code_between_branches_is_cut() {
    let calls = "(call $other (i32.const 1))".repeat(1000);
    let mut code = "(block ".to_owned();
    for _ in 0..1000 {
        write!(code, "{calls} (br_if 0 (local.get $a))").expect("a string takes all");
    }
    assert!(largest(&(code + ") (local.get $c)")) < PIECE_BYTES);
}

#[test]
fn pieces_have_the_name_of_their_function() {
    let split = split_code(&(many("(call $other (i32.const 1))", 4) + "(i32.const 0)"));
    let split = split.expect("it is split");
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(&split) {
        if let Payload::CustomSection(section) = payload.expect("it is valid")
            && let wasmparser::KnownCustom::Name(section) = section.as_known()
        {
            for name in section.into_iter().map_while(Result::ok) {
                if let wasmparser::Name::Function(functions) = name {
                    names.extend(
                        functions
                            .into_iter()
                            .map(|name| name.expect("it is valid").name),
                    );
                }
            }
        }
    }
    assert_eq!(names[..3], ["imported", "large", "other"]);
    assert!(names.len() > 3 && names[3..].iter().all(|name| *name == "large"));
}
