//! Files that are hard to load: the host runs each in the end, or refuses it and names the limit that it exceeds.
//!
//! No test here measures time. If the loader's work grows with the square of a module's size, the loader does not end, and
//! the tests notice that as they notice any hanging program.

use super::{Became, ran_or_refused, valid};
use atoll_tests::{Atoll, guest};
use std::fmt::Write;

/// The exit code of the modules below, which they pass to WASI.
const EXIT_CODE: i32 = 7;
/// The instructions that exit, if the exit is function 0.
const EXITS: &[u8] = &[0x41, 7, 0x10, 0];
const END: &[u8] = &[0x0b];
const HEAD: &[u8] = b"\0asm\x01\0\0\0";

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Bytes behind their length.
fn sized(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&leb(bytes.as_ref().len()), bytes.as_ref()].concat()
}

fn list(items: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = leb(items.len());
    for item in items {
        bytes.extend_from_slice(item.as_ref());
    }
    bytes
}

fn section(id: u8, contents: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![id], sized(contents)].concat()
}

fn custom(name: &str, contents: impl AsRef<[u8]>) -> Vec<u8> {
    section(0, [&sized(name), contents.as_ref()].concat())
}

/// The sections of a module that exits. Function 0 is the exit and function 1 is `_start`; the functions with the other
/// bodies follow. Types 0 and 1 are the types of `_start` and of the exit.
fn sections(bodies: &[Vec<u8>], more_types: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut types = vec![vec![0x60, 0, 0], vec![0x60, 1, 0x7f, 0]];
    types.extend_from_slice(more_types);
    let exit = [
        sized("wasi_snapshot_preview1"),
        sized("proc_exit"),
        vec![0, 1],
    ]
    .concat();
    let exports = [
        [sized("memory"), vec![2, 0]].concat(),
        [sized("_start"), vec![0, 1]].concat(),
    ];
    let bodies: Vec<Vec<u8>> = bodies.iter().map(sized).collect();
    vec![
        section(1, list(&types)),
        section(2, list(&[exit])),
        section(3, list(&vec![[0u8]; bodies.len()])),
        section(5, list(&[[0, 1]])),
        section(7, list(&exports)),
        section(10, list(&bodies)),
    ]
}

fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [HEAD, &sections.concat()].concat()
}

/// A body with this many locals of type `i32`.
fn body(locals: usize, code: &[&[u8]]) -> Vec<u8> {
    let locals = match locals {
        0 => vec![0],
        count => [vec![1], leb(count), vec![0x7f]].concat(),
    };
    [locals, code.concat(), END.to_vec()].concat()
}

/// A module of one function with this code, before or after which it exits.
fn module_of(code: &[&[u8]]) -> Vec<u8> {
    valid(module(&sections(&[body(0, code)], &[])))
}

/// A module that is large in some way runs to its end, or the host refuses it and names the limit.
#[track_caller]
fn runs_or_exceeds_a_limit(what: &str, bytes: &[u8], code: i32) {
    let outcome = Atoll::run(bytes).outcome();
    if ran_or_refused(&outcome, code) == Became::Refused {
        let is_named = outcome.stderr.contains("limit")
            && outcome.stderr.chars().any(|char| char.is_ascii_digit());
        assert!(is_named, "{what}: no limit is named\n{outcome}");
    }
}

#[test]
fn name_sections_that_are_malformed_are_no_reason_to_refuse_a_module() {
    let name = |index: usize, name: &[u8]| [leb(index), sized(name)].concat();
    let functions = |names: &[Vec<u8>]| [vec![1], sized(list(names))].concat();
    let one = functions(&[name(1, b"f")]);
    let contents: [(&str, Vec<u8>); 10] = [
        ("empty", vec![]),
        ("cut-off", vec![1, 0x7f, 1]),
        ("named-twice", functions(&[name(1, b"f"), name(1, b"g")])),
        ("no-such-function", functions(&[name(99_999, b"f")])),
        ("not-utf8", functions(&[name(1, b"\xff\xfe")])),
        (
            "out-of-order",
            [&[2, 1, 0], &functions(&[name(1, b"f")])[..]].concat(),
        ),
        ("huge-count", [vec![1], sized(leb(0xffff_ffff))].concat()),
        ("huge-length", [&[1][..], &leb(0xffff_ffff)].concat()),
        ("unknown-part", vec![99, 2, 1, 2]),
        ("garbage", (0..64).collect()),
    ];
    let core = sections(&[body(0, &[EXITS])], &[]);
    for (what, contents) in &contents {
        let section = custom("name", contents);
        let places = [
            module(&[core.concat(), section.clone()]),
            module(&[section.clone(), core.concat()]),
            module(&[core.concat(), section, custom("name", &one)]),
        ];
        for bytes in places {
            let outcome = Atoll::run(valid(bytes)).outcome();
            assert!(
                outcome.code == Some(EXIT_CODE) && outcome.stderr.is_empty(),
                "{what}\n{outcome}"
            );
        }
    }
}

#[test]
fn custom_sections_may_hold_anything_anywhere() {
    let core = sections(&[body(0, &[EXITS])], &[]);
    let garbage: Vec<u8> = (200..=255).collect();
    let mut modules = Vec::new();
    for name in [
        "",
        "producers",
        "target_features",
        "linking",
        "reloc.CODE",
        "dylink.0",
        ".debug_info",
        ".debug_line",
        "sourceMappingURL",
        "build_id",
        "metadata.code.branch_hint",
        "metadata.code.trace_inst",
        "external_debug_info",
        "component-type",
        "component-type:world",
        "component-name",
        "core-name",
        "atoll:entry",
    ] {
        let section = custom(name, &garbage);
        modules.push((
            format!("`{name}` last"),
            module(&[core.concat(), section.clone()]),
        ));
        let mut between = core.clone();
        between.insert(1, section);
        modules.push((format!("`{name}` second"), module(&between)));
    }
    let everywhere: Vec<Vec<u8>> = core
        .iter()
        .flat_map(|section| [custom("x", b"y"), section.clone()])
        .collect();
    modules.push(("one in front of each".into(), module(&everywhere)));
    let ten_thousand = custom("x", b"").repeat(10_000);
    modules.push((
        "ten thousand".into(),
        module(&[ten_thousand, core.concat()]),
    ));
    let large = custom(".debug_info", vec![0; 60 << 20]);
    modules.push(("sixty megabytes".into(), module(&[core.concat(), large])));
    for (what, bytes) in modules {
        let outcome = Atoll::run(valid(bytes)).outcome();
        assert!(
            outcome.code == Some(EXIT_CODE) && outcome.stderr.is_empty(),
            "{what}\n{outcome}"
        );
    }
}

#[test]
fn a_command_s_start_runs_though_it_exports_a_function_called_run() {
    // The program does not use the contract.
    let print = |text: &str| {
        format!(
            "(data (i32.const 64) \"{text}\\0a\")
             (func $print
               (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {}))
               (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))",
            text.len() + 1
        )
    };
    let command = format!(
        "(module
           (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1) {}
           (func (export \"run\") (i32.store8 (i32.const 69) (i32.const 33)) (call $print))
           (func (export \"_start\") (call $print)))",
        print("start.")
    );
    let command = valid(command);
    let runs = |options: &[&str], stdout: &str| {
        Atoll::run(&command)
            .options(options)
            .outcome()
            .code(0)
            .stdout(stdout)
            .stderr("");
    };
    runs(&[], "start.\n");
    runs(&["--function", "_start"], "start.\n");
    runs(&["--function", "run"], "start!\n");
    let inspection = Atoll::inspect(&command).outcome().code(0);
    assert!(
        inspection.stdout.contains("entry      _start\n"),
        "{inspection}"
    );
    // A spawn without a function name means the same.
    let main = guest(
        "(func (export \"run\")
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"command\" (i32.const 0) (i32.const 0) (i32.const 272))))
           (call $await-end (i32.const 272)))",
    );
    Atoll::run(main)
        .program("command", &command)
        .outcome()
        .code(0)
        .stdout("start.\n");
}

/// A loop that ends at once.
const LOOP: &[u8] = &[0x03, 0x40, 0x41, 0, 0x0d, 0, 0x0b];

#[test]
fn many_loops_in_one_function() {
    for count in [8_000, 50_000, 200_000] {
        let loops = LOOP.repeat(count);
        let what = format!("{count} loops in sequence");
        runs_or_exceeds_a_limit(&what, &module_of(&[&loops, EXITS]), EXIT_CODE);
    }
}

#[test]
fn many_loops_within_each_other() {
    for count in [900, 5_000, 20_000] {
        let starts = [0x03, 0x40].repeat(count);
        // Each loop iterates if it is told to. It never is.
        let ends = [0x41, 0, 0x0d, 0, 0x0b].repeat(count);
        let what = format!("{count} loops within each other");
        runs_or_exceeds_a_limit(&what, &module_of(&[&starts, &ends, EXITS]), EXIT_CODE);
    }
}

#[test]
fn many_blocks_within_each_other() {
    for (what, start) in [
        ("blocks", &[0x02, 0x40][..]),
        ("ifs", &[0x41, 0, 0x04, 0x40]),
    ] {
        for count in [5_000, 200_000] {
            let code = [start.repeat(count), END.repeat(count)].concat();
            let what = format!("{count} {what}");
            runs_or_exceeds_a_limit(&what, &module_of(&[&code, EXITS]), EXIT_CODE);
        }
    }
}

#[test]
fn a_function_with_a_large_body() {
    const BYTES: usize = 1_600_000;
    for (what, piece) in [
        ("nothing", &[0x01][..]),
        ("blocks", &[0x02, 0x40, 0x0c, 0, 0x0b]),
        ("loops", LOOP),
        ("arithmetic", &[0x41, 1, 0x41, 2, 0x6a, 0x1a]),
        ("stores", &[0x41, 0, 0x41, 0, 0x36, 2, 0]),
        ("growth", &[0x41, 0, 0x40, 0, 0x1a]),
    ] {
        let code = piece.repeat(BYTES / piece.len());
        runs(what, &module_of(&[&code, EXITS]));
    }
    runs("calls", &calls(BYTES, &[], &[]));
}

/// wasm allows a function 7,654,321 bytes. Counting reductions must not make a function of nearly that size too large.
const BODY_BYTES: usize = 7_654_000;

#[test]
fn a_function_of_loops_that_is_as_large_as_may_be() {
    let code = LOOP.repeat(BODY_BYTES / LOOP.len());
    runs("loops", &module_of(&[&code, EXITS]));
}

#[test]
fn a_function_of_calls_that_is_as_large_as_may_be() {
    // All calls are in one block.
    runs("calls", &calls(BODY_BYTES, &[0x02, 0x40], END));
}

/// A module whose first function calls another until the code has this size, with these instructions around the calls and the
/// exit.
fn calls(bytes: usize, before: &[u8], after: &[u8]) -> Vec<u8> {
    let calls = [0x10, 2].repeat(bytes / 2);
    let bodies = [body(0, &[before, &calls, EXITS, after]), body(0, &[])];
    valid(module(&sections(&bodies, &[])))
}

#[track_caller]
fn runs(what: &str, bytes: &[u8]) {
    let outcome = Atoll::run(bytes).outcome();
    assert!(
        outcome.code == Some(EXIT_CODE) && outcome.stderr.is_empty(),
        "{what}\n{outcome}"
    );
}

#[test]
fn a_branch_with_very_many_targets() {
    // The compiler accepts 65,520. Each table element leads to the block of the number at the end.
    let targets = |count: usize| -> String {
        let mut text = String::new();
        for place in 0..count {
            let _ = write!(text, " {}", place % 3);
        }
        text
    };
    for count in [65_519, 65_520, 65_521, 131_040, 300_000] {
        let last = count - 1;
        let text = format!(
            "(func $choose (param i32) (result i32)
               (block (block (block (block
                 (br_table {} 3 (local.get 0)))
                 (return (i32.const 0))) (return (i32.const 1))) (return (i32.const 2)))
               (i32.const 9))
             (func (export \"run\")
               (call $print-number (call $choose (i32.const 0)))
               (call $print-number (call $choose (i32.const 65519)))
               (call $print-number (call $choose (i32.const {last})))
               (call $print-number (call $choose (i32.const {count})))
               (call $print-number (call $choose (i32.const -1))))",
            targets(count)
        );
        let at = |place: usize| if place < count { place % 3 } else { 9 };
        let stdout = format!("0\n{}\n{}\n9\n9\n", at(65_519), at(last));
        Atoll::run(valid(guest(&text)))
            .outcome()
            .code(0)
            .stdout(&stdout);
    }
    // These branch targets take operands, which the compiler refuses.
    let text = format!(
        "(func (export \"run\")
           (drop (block (result i32) (br_table {} 0 (i32.const 1) (i32.const 0)))))",
        " 0".repeat(70_000)
    );
    Atoll::run(valid(guest(&text)))
        .outcome()
        .code(1)
        .stderr_has("the module can't be compiled: ");
}

#[test]
fn a_large_function_computes_the_same_in_pieces() {
    // Three locals, each of which depends on the others: three million steps, with a call and a loop now and then.
    let step = "(local.set $a (i32.add (local.get $a) (local.get $b)))
        (local.set $b (i32.xor (local.get $b) (i32.rotl (local.get $a) (i32.const 5))))
        (local.set $c (i64.add (local.get $c) (i64.extend_i32_u (local.get $b))))";
    let call = "(local.set $a (call $other (local.get $a)))";
    let round =
        "(local.set $n (i32.const 3)) (loop (local.set $b (i32.add (local.get $b) (local.get $n)))
        (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    let part = format!("{} {call} {round}", step.repeat(40));
    let program = |repeats: usize, rounds: usize| {
        let code = part.repeat(repeats);
        valid(guest(&format!(
            "(func $other (param i32) (result i32) (i32.mul (local.get 0) (i32.const 17)))
             (func $large (param $a i32) (param $b i32) (param $c i64) (result i32 i32 i64) (local $n i32)
               {code}
               (local.get $a) (local.get $b) (local.get $c))
             (func (export \"run\") (local $a i32) (local $b i32) (local $c i64) (local $round i32)
               (local.set $b (i32.const 1))
               (loop $again
                 (call $large (local.get $a) (local.get $b) (local.get $c))
                 local.set $c local.set $b local.set $a
                 (br_if $again (i32.lt_u
                   (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const {rounds}))))
               (call $print-number (local.get $a))
               (call $print-number (local.get $b))
               (call $print-number (i32.wrap_i64 (local.get $c))))"
        )))
    };
    // Each part is some 1,000 bytes.
    let small = Atoll::run(program(40, 100)).outcome().code(0);
    Atoll::run(program(4000, 1))
        .outcome()
        .code(0)
        .stdout(&small.stdout);
}

#[test]
fn a_trap_in_a_piece_names_the_function() {
    let many = "(call $other)".repeat(2_000_000);
    let text = format!(
        "(module (func $other) (func $large {many} unreachable) (func (export \"run\") (call $large)))"
    );
    // The pieces come first, so the trap is in the function itself. In the other module it is in a piece.
    Atoll::run(valid(&text))
        .outcome()
        .code(134)
        .stderr_has("large");
    let text = text.replacen(" unreachable", "", 1).replacen(
        "(func $other)",
        "(global $left (mut i32) (i32.const 1000000))
         (func $other (global.set $left (i32.sub (global.get $left) (i32.const 1)))
           (if (i32.eqz (global.get $left)) (then unreachable)))",
        1,
    );
    Atoll::run(valid(text))
        .outcome()
        .code(134)
        .stderr_has("large");
}

/// A function that is much work for the compiler.
fn heavy_function() -> String {
    let code = "(local.set $a (i32.mul (local.get $a) (i32.add (local.get $a) (i32.load (local.get $a)))))";
    format!("(func $heavy (param $a i32) {})", code.repeat(50_000))
}

/// A module with this function as function 1.
fn heavy() -> Vec<u8> {
    valid(format!(
        "(module (memory 1) (func $light) {}
           (func (export \"run\") (call $heavy (i32.const 0))))",
        heavy_function()
    ))
}

#[test]
fn a_module_that_takes_too_much_to_compile_is_refused() {
    for (limit, what) in [
        (["--max-compile-time", "50ms"], "processor time than 50ms"),
        (["--max-compile-memory", "40MiB"], "memory than 40 MiB"),
    ] {
        Atoll::run(heavy())
            .options(limit)
            .outcome()
            .code(1)
            .stdout("")
            .stderr_has("can't be loaded: the module is too costly to compile: it takes more ")
            .stderr_has(what)
            .stderr_has("function 1::heavy")
            .stderr_has("\n  hint: raise --max-compile-time");
    }
    Atoll::run(heavy()).outcome().code(0).stderr("");
    // Any compilation takes more than this.
    for limit in ["--max-compile-time", "--max-compile-memory"] {
        Atoll::run("(module (func (export \"run\")))")
            .options([limit, "0"])
            .outcome()
            .code(1)
            .stderr_has("the module is too costly to compile: it takes more ");
    }
}

#[test]
fn components_have_the_same_limits() {
    let component = heavy_component();
    Atoll::run(&component)
        .options(["--max-compile-time", "50ms"])
        .outcome()
        .code(1)
        .stderr_has("the module is too costly to compile");
    Atoll::run(&component).outcome().code(0).stderr("");
}

/// The same in a component that can't be unwrapped, because it has two modules.
fn heavy_component() -> Vec<u8> {
    let text = format!(
        "(component
           (core module $other (func (export \"f\")))
           (core module $module (import \"other\" \"f\" (func)) (memory 1) {}
             (func (export \"run\") (call $heavy (i32.const 0))))
           (core instance $other (instantiate $other))
           (core instance $instance (instantiate $module (with \"other\" (instance $other))))
           (func $run (canon lift (core func $instance \"run\")))
           (export \"run\" (func $run)))",
        heavy_function()
    );
    wat::parse_str(text).expect("the text is a component")
}

#[test]
fn the_compiling_process_refuses_malformed_modules() {
    for (words, code, error) in [
        (&["compile", "module", "1000", "100000000"][..], 1, ""),
        (
            &["compile", "code", "1000", "100000000"],
            2,
            "module` or `component",
        ),
        (&["compile", "module", "-1", "1"], 2, "unexpected argument"),
        (&["compile"], 2, "required"),
    ] {
        Atoll::words(words.iter().copied())
            .stdin("no wasm")
            .outcome()
            .code(code)
            .stdout("")
            .stderr_has(error);
    }
}

#[test]
fn a_function_with_as_many_locals_as_there_may_be() {
    // The code that counts reductions must not need another local.
    let count_to_ten: &[u8] = &[
        0x03, 0x40, 0x20, 0, 0x41, 1, 0x6a, 0x22, 0, 0x41, 0x0a, 0x48, 0x0d, 0, 0x0b,
    ];
    for locals in [49_990, 49_999, 50_000] {
        for call in [&[][..], &[0x10, 2]] {
            let bodies = [body(locals, &[count_to_ten, call, EXITS]), body(0, &[])];
            let bytes = valid(module(&sections(&bodies, &[])));
            runs_or_exceeds_a_limit(&format!("{locals} locals"), &bytes, EXIT_CODE);
        }
    }
}

#[test]
fn many_functions_with_many_locals() {
    // Eight bytes each, so the file is small.
    for count in [100, 200_000] {
        let mut bodies = vec![body(0, &[EXITS])];
        bodies.resize(count, body(49_999, &[]));
        let bytes = valid(module(&sections(&bodies, &[])));
        runs_or_exceeds_a_limit(&format!("{count} functions"), &bytes, EXIT_CODE);
    }
}

#[test]
fn many_imports_of_one_function() {
    let import = "(import \"atoll-rt:process/lifecycle@0.2.0\" \"yield-now\" (func))";
    for (imports, calls) in [(1_000, 100_000), (90_000, 0), (90_000, 400_000)] {
        let calls: String = (0..calls)
            .map(|number| format!("(call {})", number % imports))
            .collect();
        // The code is behind a return, so it is loaded and never runs.
        let text = format!(
            "(module {} (memory (export \"memory\") 1) (func (export \"run\") (return) {calls}))",
            import.repeat(imports)
        );
        runs_or_exceeds_a_limit(&format!("{imports} imports"), &valid(text), 0);
    }
}

#[test]
fn many_functions_that_a_table_mentions() {
    for count in [10_000, 100_000] {
        let functions = "(func)".repeat(count);
        let mut indexes = String::new();
        for index in 0..count {
            let _ = write!(indexes, " {index}");
        }
        let text = format!(
            "(module {functions} (table {count} funcref) (elem (i32.const 0) func {indexes})
               (func (export \"run\") (table.set (i32.const 0) (table.get (i32.const 1)))))"
        );
        runs_or_exceeds_a_limit(&format!("{count} functions"), &valid(text), 0);
    }
}

#[test]
fn a_long_text() {
    // The binary would have a tenth of the size.
    for bytes in [1 << 20, 60 << 20] {
        let functions = "(func)".repeat(bytes / 6);
        let text = format!("(module (func (export \"run\")) {functions})");
        runs_or_exceeds_a_limit(&format!("{bytes} bytes"), text.as_bytes(), 0);
    }
    // Only blanks and comments around a small module.
    for filler in [" ", "\n", ";; nothing\n", "(; nothing ;)"] {
        let filler = filler.repeat((30 << 20) / filler.len());
        let text = format!("(module {filler} (func (export \"run\")))");
        runs_or_exceeds_a_limit("blanks", text.as_bytes(), 0);
    }
}

#[test]
fn texts_within_texts_without_end() {
    for text in [
        "(".repeat(1 << 20),
        format!("(module {}", "(func (block ".repeat(1 << 18)),
        format!("(module (func {}", "(i32.add ".repeat(1 << 20)),
        format!("(module {}", "(; ".repeat(1 << 20)),
        format!("(component {}", "(component ".repeat(1 << 17)),
        format!("(component (type {}", "(list ".repeat(1 << 18)),
    ] {
        let outcome = Atoll::run(text).outcome();
        let became = ran_or_refused(&outcome, 0);
        assert_eq!(became, Became::Refused, "{outcome}");
    }
}
