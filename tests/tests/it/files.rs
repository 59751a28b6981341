//! Files that are not programs, and programs that can't be loaded: the error, and that nothing else happens.

use atoll_tests::{Atoll, Outcome, bare_guest, guest};

/// Running a file of these bytes fails with this error and this hint. `inspect` fails, too, unless only running the file is
/// wrong.
#[track_caller]
fn check(bytes: impl AsRef<[u8]>, error: &str, hint: &str) -> Outcome {
    let outcome = Atoll::run(&bytes).outcome().code(1).stdout("");
    let (first, rest) = outcome.stderr.split_once('\n').expect("there is an error");
    assert!(
        first.starts_with("error: `")
            && first.contains(&format!("main.wat` can't be loaded: {error}")),
        "the error is not {error:?}\n{outcome}"
    );
    assert!(
        rest.contains(&format!("  hint: {hint}")),
        "the hint is not {hint:?}\n{outcome}"
    );
    outcome
}

const NOT_WASM_HINT: &str = "give a .wasm module, a component, or the .wat text of either";
const INVALID_HINT: &str = "build it again; if it was copied, compare its size with the original's";
const IMPORT_HINT: &str =
    "a guest may import atoll-rt:process/* 0.2.0 and WASI; `atoll inspect FILE` lists";
const ENTRY_HINT: &str = "export `run: func()`";

#[test]
fn missing_file() {
    for subcommand in ["run", "inspect"] {
        Atoll::words([subcommand, "no/such/file.wasm"])
            .outcome()
            .code(1)
            .stdout("")
            .stderr(
                "error: `no/such/file.wasm` can't be read: No such file or directory (os error 2)\n  \
                 hint: check the path; guests of this repository are built by `cargo xtask guests`\n",
            );
    }
    Atoll::run(guest("(func (export \"run\"))"))
        .options(["--program", "other=no/such/file.wasm"])
        .outcome()
        .code(1)
        .stderr_has("error: `no/such/file.wasm` can't be read: ");
}

#[test]
fn directory() {
    for subcommand in ["run", "inspect"] {
        Atoll::words([subcommand, "/"]).outcome().code(1).stdout("").stderr(
            "error: `/` can't be read: Is a directory (os error 21)\n  hint: name the .wasm file in it\n",
        );
    }
}

#[test]
fn empty_file() {
    check(
        "",
        "this is not WebAssembly: the file is empty",
        NOT_WASM_HINT,
    );
}

#[test]
fn not_wasm() {
    let texts: [&[u8]; 8] = [
        b"hello",
        b"{\"module\": 1}",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        b"#!/bin/sh\nexit 0\n",
        b" \n\t\n",
        b"\0",
        b"\0as",
        b"\xff\xfe(\0m\0",
    ];
    for text in texts {
        check(
            text,
            "this is not WebAssembly: it begins neither as a binary (`\\0asm`) nor as text (`(module` or `(component`)",
            NOT_WASM_HINT,
        );
    }
}

#[test]
fn too_large_a_file() {
    // A file without an end.
    Atoll::run_file("/dev/zero")
        .outcome()
        .code(1)
        .stdout("")
        .stderr_has("error: `/dev/zero` can't be loaded: the module is too large: ")
        .stderr_has("\n  hint: is it the right file?");
}

#[test]
fn text_with_mistakes() {
    for text in [
        "(module",
        "(module (func (export \"run\") (nonsense)))",
        "(module (func (export \"run\") (i32.const 1)))",
        "(module (func (export \"run\") (call $nobody)))",
        "(module (func (export \"run\")) (func (export \"run\")))",
        "(component (import \"x\" (func)) (export \"run\" (func 1)))",
        "(nonsense)",
        ";; only a comment",
        "(module) (module)",
    ] {
        let outcome = Atoll::run(text).outcome().code(1).stdout("");
        assert!(
            outcome.stderr.starts_with("error: `") && outcome.stderr.contains("\n  hint: "),
            "{text}\n{outcome}"
        );
    }
    check(
        "(module (func (export \"run\") (nonsense)))",
        "the module is not valid: unknown operator",
        INVALID_HINT,
    )
    // The place in the file: line and column.
    .stderr_has(":1:31");
}

#[test]
fn errors_in_long_lines_stay_short() {
    let texts = [
        "(".repeat(200_000),
        format!(
            "(module (func (export \"run\") (nonsense{})))",
            " nop".repeat(50_000)
        ),
        format!("(module (import \"{}\" \"f\" (func)))", "m".repeat(90_000)),
    ];
    for text in texts {
        let outcome = Atoll::run(&text).outcome().code(1).stdout("");
        assert!(
            outcome.stderr.len() < 10_000,
            "{} bytes on standard error\n{outcome}",
            outcome.stderr.len()
        );
    }
}

#[test]
fn truncated_wasm() {
    // A module without a name section: every cut removes something that is needed.
    let text = "(module
        (import \"atoll-rt:process/mailbox@0.2.0\" \"make-reference\" (func (param i32)))
        (memory (export \"memory\") 1)
        (func (export \"run\") (call 0 (i32.const 64))))";
    let binary = wat::parse_str(text).expect("the text is right");
    Atoll::run(&binary).outcome().code(0).stderr("");
    for bytes in (4..binary.len()).step_by(5) {
        let outcome = Atoll::run(&binary[..bytes]).outcome().code(1).stdout("");
        // A cut between two sections leaves a valid module without an entry or without code.
        assert!(
            outcome.stderr.contains("can't be loaded: the module ")
                && outcome.stderr.contains("\n  hint: "),
            "cut after {bytes} bytes\n{outcome}"
        );
    }
    check(
        &binary[..binary.len() - 1],
        "the module is not valid: unexpected end",
        INVALID_HINT,
    );
}

#[test]
fn spoiled_wasm() {
    // The test changes every byte in turn and inspects the file. The result may be wasm. It must not crash the program.
    let binary = wat::parse_str(bare_guest("(func (export \"run\"))")).expect("the text is right");
    for index in (0..binary.len()).step_by(29) {
        let mut spoiled = binary.clone();
        spoiled[index] ^= 0x55;
        let outcome = Atoll::inspect(&spoiled).outcome();
        let fine = match outcome.code {
            Some(0) => outcome.stderr.is_empty(),
            Some(1) => outcome.stderr.starts_with("error: `"),
            _ => false,
        };
        assert!(fine, "byte {index} is spoiled\n{outcome}");
    }
}

#[test]
fn wasm_of_another_version() {
    for header in [
        b"\0asm\x02\0\0\0",
        b"\0asm\0\0\0\0",
        b"\0asm\xff\xff\xff\xff",
    ] {
        check(
            header,
            "the module is not valid: it begins as wasm does, but its version is not one that this host knows",
            INVALID_HINT,
        );
    }
}

#[test]
fn wrong_world_and_no_entry_point() {
    check(
        "(module)",
        "the module has no entry point: it exports no function without parameters and results",
        ENTRY_HINT,
    );
    for (function, names) in [
        ("(func (export \"start\"))", "start"),
        (
            "(func (export \"start\")) (func (export \"main\"))",
            "start, main",
        ),
    ] {
        check(
            format!("(module {function})"),
            &format!(
                "the module has no entry point: it exports neither `run` nor `_start`, only {names}"
            ),
            ENTRY_HINT,
        );
    }
    for function in [
        "(func (export \"run\") (param i32))",
        "(func (export \"run\") (result i32) (i32.const 0))",
        "(memory (export \"run\") 1)",
        "(global (export \"run\") i32 (i32.const 1))",
    ] {
        check(
            format!("(module {function})"),
            "the module has no entry point: it exports no function without parameters and results",
            ENTRY_HINT,
        );
    }
    // An import that is exported again is not a function of the module's own.
    check(
        "(module (import \"atoll-rt:process/lifecycle@0.2.0\" \"yield-now\" (func $yield))
           (memory (export \"memory\") 1) (export \"run\" (func $yield)))",
        "the module has no entry point: ",
        ENTRY_HINT,
    );
}

#[test]
fn unknown_import() {
    for (import, error) in [
        ("\"env\" \"print\" (func)", "`print` from `env`"),
        ("\"env\" \"memory\" (memory 1)", "`memory` from `env`"),
        ("\"env\" \"table\" (table 1 funcref)", "`table` from `env`"),
        ("\"env\" \"base\" (global i32)", "`base` from `env`"),
        (
            "\"atoll-rt:process/mailbox@0.2.0\" \"sned\" (func)",
            "`sned` from `atoll-rt:process/mailbox@0.2.0`: the contract has no such function",
        ),
        (
            "\"atoll-rt:process/mailbox@0.3.0\" \"send\" (func)",
            "`send` from `atoll-rt:process/mailbox@0.3.0`: the contract has no such function",
        ),
        (
            "\"atoll-rt:process/mailbox\" \"send\" (func)",
            "`send` from `atoll-rt:process/mailbox`: the contract has no such function",
        ),
        (
            "\"atoll-rt:process/types@0.2.0\" \"pid\" (func)",
            "`pid` from `atoll-rt:process/types@0.2.0`: the contract has no such function",
        ),
        (
            "\"atoll-rt:process/mailbox@0.2.0\" \"spawn\" (func)",
            "`spawn` from `atoll-rt:process/mailbox@0.2.0`: the contract has no such function",
        ),
        (
            "\"wasi_snapshot_preview1\" \"nonsense\" (func)",
            "unknown import: `wasi_snapshot_preview1::nonsense` has not been defined",
        ),
        (
            "\"wasi_unstable\" \"fd_write\" (func)",
            "`fd_write` from `wasi_unstable`",
        ),
        ("\"\" \"\" (func)", "`` from ``"),
    ] {
        check(
            format!("(module (import {import}) (func (export \"run\")))"),
            &format!("the module imports something that does not exist: {error}"),
            IMPORT_HINT,
        );
    }
}

#[test]
fn imports_of_the_hosts_own_functions() {
    for name in [
        "receive",
        "take",
        "send",
        "spawn",
        "argument",
        "yield-now",
        "nonsense",
    ] {
        check(
            format!(
                "(module (import \"atoll:raw\" \"{name}\" (func (param i32)))
                   (memory (export \"memory\") 1) (func (export \"run\")))"
            ),
            &format!(
                "the module imports something that does not exist: `{name}` from `atoll:raw`: this module is the host's own"
            ),
            IMPORT_HINT,
        );
    }
    for name in ["take", "pause"] {
        check(
            format!(
                "(module (import \"atoll:raw\" \"{name}\" (global i32)) (func (export \"run\")))"
            ),
            &format!("the module imports something that does not exist: `{name}` from `atoll:raw`"),
            IMPORT_HINT,
        );
    }
}

#[test]
fn exports_with_the_hosts_own_names() {
    for (name, prefix) in [
        ("atoll:entry", "atoll:entry"),
        ("atoll:entry/run", "atoll:entry"),
        ("atoll:global/0", "atoll:global/"),
        ("atoll:reductions", "atoll:reductions"),
    ] {
        check(
            format!("(module (func (export \"run\")) (func (export \"{name}\")))"),
            &format!(
                "the module is not valid: exports that begin with `{prefix}` are the host's own: `{name}`"
            ),
            INVALID_HINT,
        );
    }
    check(
        "(module (func (export \"run\")) (global (export \"atoll:global/0\") (mut i32) (i32.const 0)))",
        "the module is not valid: exports that begin with `atoll:global/` are the host's own: `atoll:global/0`",
        INVALID_HINT,
    );
}

#[test]
fn imports_with_a_wrong_signature() {
    let hint = "generate its bindings again from the contract in wit/";
    for (import, error) in [
        (
            "\"atoll-rt:process/lifecycle@0.2.0\" \"self\" (func)",
            "`self` of `atoll-rt:process/lifecycle@0.2.0` is (i32) -> (), but the module imports it as () -> ()",
        ),
        (
            "\"atoll-rt:process/lifecycle@0.2.0\" \"is-alive\" (func (param i64 i64) (result i64))",
            "`is-alive` of `atoll-rt:process/lifecycle@0.2.0` is (i64 i64) -> (i32), but the module imports it as (i64 i64) -> (i64)",
        ),
        (
            "\"atoll-rt:process/mailbox@0.2.0\" \"receive\" (func (param i32 i32 i32 i32 i64 i32))",
            "`receive` of `atoll-rt:process/mailbox@0.2.0` is (i32 i64 i64 i32 i64 i32) -> (), but the module imports it as (i32 i32 i32 i32 i64 i32) -> ()",
        ),
        (
            "\"atoll-rt:process/mailbox@0.2.0\" \"send\" (global i32)",
            "`send` of `atoll-rt:process/mailbox@0.2.0` is a function, not a",
        ),
        (
            "\"atoll-rt:process/mailbox@0.2.0\" \"send\" (memory 1)",
            "`send` of `atoll-rt:process/mailbox@0.2.0` is a function, not a",
        ),
        (
            "\"wasi_snapshot_preview1\" \"fd_write\" (table 1 funcref)",
            "`fd_write` of `wasi_snapshot_preview1` is a function, not a",
        ),
    ] {
        check(
            format!("(module (import {import}) (func (export \"run\")))"),
            &format!("the module imports a function with a wrong signature: {error}"),
            hint,
        );
    }
    // Every function of the contract, each with one parameter too many.
    for (interface, name) in [
        ("lifecycle", "self"),
        ("lifecycle", "argument"),
        ("lifecycle", "exit"),
        ("lifecycle", "is-alive"),
        ("lifecycle", "yield-now"),
        ("mailbox", "send"),
        ("mailbox", "receive"),
        ("mailbox", "make-reference"),
        ("spawning", "spawn"),
    ] {
        let params = "i32 ".repeat(12);
        check(
            format!(
                "(module (import \"atoll-rt:process/{interface}@0.2.0\" \"{name}\" (func (param {params})))
                   (memory (export \"memory\") 1) (func (export \"run\")))"
            ),
            &format!(
                "the module imports a function with a wrong signature: `{name}` of `atoll-rt:process/{interface}@0.2.0` is "
            ),
            hint,
        );
    }
}

#[test]
fn a_function_of_wasi_with_a_wrong_signature() {
    check(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i64)))
           (memory (export \"memory\") 1) (func (export \"run\")))",
        "the module imports a function with a wrong signature: ",
        "",
    );
}

#[test]
fn no_memory_and_no_realloc() {
    check(
        "(module (import \"atoll-rt:process/lifecycle@0.2.0\" \"self\" (func (param i32))) (func (export \"run\")))",
        "the module exports no memory: it imports `self` of `atoll-rt:process/lifecycle@0.2.0` but exports no memory named `memory`",
        "export the module's memory as `memory`",
    );
    let receive = "(import \"atoll-rt:process/mailbox@0.2.0\" \"receive\" (func (param i32 i64 i64 i32 i64 i32)))";
    for realloc in [
        "",
        "(func (export \"cabi_realloc\"))",
        "(func (export \"cabi_realloc\") (param i32 i32 i32) (result i32) unreachable)",
        "(func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i64) unreachable)",
        "(global (export \"cabi_realloc\") i32 (i32.const 0))",
    ] {
        check(
            format!(
                "(module {receive} (memory (export \"memory\") 1) (func (export \"run\")) {realloc})"
            ),
            "the module exports no `cabi_realloc`: `receive` of `atoll-rt:process/mailbox@0.2.0` returns a list, for which the module must export `cabi_realloc: (i32 i32 i32 i32) -> (i32)`",
            "link with wit-bindgen's bindings",
        );
    }
}

#[test]
fn a_module_that_would_be_too_large_for_its_limit() {
    // Two pages, where the limit is one.
    let outcome = Atoll::run(bare_guest("(func (export \"run\"))"))
        .options(["--max-memory", "64KiB"])
        .outcome()
        .code(1);
    outcome.stderr_has("can't be loaded: the module's memory is too large: ");
}

#[test]
fn another_program_that_can_not_be_loaded() {
    Atoll::run(guest("(func (export \"run\"))"))
        .program("other", "(module)")
        .outcome()
        .code(1)
        .stdout("")
        .stderr_has("other.wat` can't be loaded: the module has no entry point: ");
}

#[test]
fn names_in_a_file_can_do_nothing_to_a_terminal() {
    // Names of imports and exports come from a stranger: escape sequences and line breaks must not get through.
    let escaped = "\\1b[2J\\0aerror: no";
    let imports = format!("(module (import \"env\" \"{escaped}\" (func)) (func (export \"run\")))");
    let exports = format!("(module (func (export \"{escaped}\")))");
    let crashes =
        format!("(module (func (export \"run\")) (func (export \"{escaped}\") unreachable))");
    for (guest, function) in [
        (&imports, ""),
        (&exports, ""),
        (&crashes, "\u{1b}[2J\nerror: no"),
    ] {
        for outcome in [
            Atoll::run(guest)
                .options(["--function", function])
                .outcome(),
            Atoll::inspect(guest).outcome(),
        ] {
            for text in [&outcome.stdout, &outcome.stderr] {
                assert!(
                    !text.contains('\u{1b}') && !text.contains("\nerror: no"),
                    "a control character got through\n{outcome}"
                );
            }
        }
    }
}

#[test]
fn text_and_binary_and_standard_input_are_the_same() {
    let text = guest("(func (export \"run\") (call $print %\"hello\"))");
    let binary = wat::parse_str(&text).expect("the text is right");
    for bytes in [text.into_bytes(), binary] {
        Atoll::run(&bytes)
            .outcome()
            .code(0)
            .stdout("hello\n")
            .stderr("");
        Atoll::run_file("-")
            .stdin(bytes)
            .outcome()
            .code(0)
            .stdout("hello\n")
            .stderr("");
    }
    Atoll::run_file("-")
        .stdin("nonsense")
        .outcome()
        .code(1)
        .stderr_has("error: `-` can't be loaded: this is not WebAssembly");
    // Comments and space may come first.
    Atoll::run(" \n;; a comment\n(module (func (export \"run\")))")
        .outcome()
        .code(0);
}

#[test]
fn compiled_code_is_kept_between_runs() {
    let text = guest("(func (export \"run\") (call $print %\"hello\"))");
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    for _ in 0..2 {
        Atoll::run(&text)
            .cached()
            .env("XDG_CACHE_HOME", home.path())
            .outcome()
            .code(0)
            .stdout("hello\n")
            .stderr("");
    }
    let kept = std::fs::read_dir(home.path()).expect("it is there").count();
    assert!(kept > 0, "nothing was kept");
    // If nothing can be kept, the program still runs.
    Atoll::run(&text)
        .cached()
        .env("XDG_CACHE_HOME", "/proc/no/such/folder")
        .outcome()
        .code(0)
        .stdout("hello\n");
}
