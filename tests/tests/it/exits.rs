//! How a process may end, and the program's exit code and standard error in each case.

use crate::prints;
use atoll_tests::{Atoll, guest};

/// A main with this body ends with this code and this text on standard error.
#[track_caller]
fn check(body: &str, code: i32, stderr: &str) {
    let guest = guest(&format!("(func (export \"run\") {body})"));
    Atoll::run(guest)
        .outcome()
        .code(code)
        .stdout("")
        .stderr(stderr);
}

#[test]
fn orderly_ends() {
    check("", 0, "");
    check("(return)", 0, "");
    check(
        "(call $exit (i32.const 0) (i32.const 0) (i32.const 0))",
        0,
        "",
    );
    check(
        "(call $exit (i32.const 1) (i32.const 0) (i32.const 0))",
        0,
        "",
    );
    check("(call $exit (i32.const 2) %\"term\")", 0, "");
    check(
        "(call $exit (i32.const 9) (i32.const 0) (i32.const 0))",
        1,
        "",
    );
}

#[test]
fn reasons_of_its_own() {
    let cases: [(&str, i32, &str); 5] = [
        (
            "(call $exit (i32.const 3) (i32.const 0) (i32.const 0))",
            137,
            "kill",
        ),
        (
            "(call $exit (i32.const 4) (i32.const 0) (i32.const 0))",
            137,
            "killed",
        ),
        (
            "(call $exit (i32.const 5) (i32.const 0) (i32.const 0))",
            1,
            "noproc",
        ),
        (
            "(call $exit (i32.const 6) (i32.const 0) (i32.const 0))",
            1,
            "noconnection",
        ),
        ("(call $exit (i32.const 10) %\"enough\")", 1, "\"enough\""),
    ];
    for (body, code, reason) in cases {
        check(body, code, &format!("atoll: main ended: {reason}\n"));
    }
    check(
        "(i32.store (i32.const 1024) (i32.const 0x00ff00ff))
         (call $exit (i32.const 10) (i32.const 1024) (i32.const 4))",
        1,
        "atoll: main ended: 0xff00ff00\n",
    );
}

#[test]
fn crashes_by_its_own_wish() {
    let guest = |body: &str| guest(&format!("(func $main (export \"run\") {body})"));
    Atoll::run(guest("(call $exit (i32.const 7) %\"out of luck\")"))
        .outcome()
        .code(134)
        .crash("run", "trap: out of luck");
    for (budget, name) in (0..).zip(["memory", "mailbox", "message", "reductions", "resources"]) {
        Atoll::run(guest(&format!(
            "(call $exit (i32.const 8) (i32.const {budget}) (i32.const 0))"
        )))
        .outcome()
        .code(138)
        .crash("run", &format!("exhausted: {name}"));
    }
}

#[test]
fn texts_of_a_guest_can_do_nothing_to_a_terminal() {
    // An escape sequence, a line that looks like a report of the host's, and 100,000 bytes.
    let body = "(i32.store (i32.const 1024) (i32.const 0x4a325b1b))
        (i32.store (i32.const 1028) (i32.const 0x6173660a))
        (memory.fill (i32.const 1032) (i32.const 97) (i32.const 100000))";
    for case in [7, 10] {
        let outcome = Atoll::run(guest(&format!(
            "(func (export \"run\") {body} (call $exit (i32.const {case}) (i32.const 1024) (i32.const 100008)))"
        )))
        .outcome();
        assert!(
            !outcome.stderr.contains('\u{1b}'),
            "an escape sequence got through\n{outcome}"
        );
        assert!(
            !outcome.stderr.contains("\nfsa"),
            "a line break got through\n{outcome}"
        );
        assert!(
            outcome.stderr.len() < 2000,
            "{} bytes on standard error\n{outcome}",
            outcome.stderr.len()
        );
    }
}

#[test]
fn traps_of_main() {
    let cases = [
        ("(unreachable)", "wasm `unreachable` instruction executed"),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "integer divide by zero",
        ),
        (
            "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
            "integer overflow",
        ),
        (
            "(drop (i32.trunc_f32_u (f32.const nan)))",
            "invalid conversion to integer",
        ),
        (
            "(drop (i32.load (i32.const 0x20000)))",
            "out of bounds memory access",
        ),
        (
            "(i64.store (i32.const -8) (i64.const 0))",
            "out of bounds memory access",
        ),
        (
            "(call_indirect $table (i32.const 5))",
            "undefined element: out of bounds table access",
        ),
        (
            "(call_indirect $table (i32.const 0))",
            "uninitialized element",
        ),
    ];
    for (body, trap) in cases {
        Atoll::run(guest(&format!(
            "(table $table 1 funcref) (func (export \"run\") {body})"
        )))
        .outcome()
        .code(134)
        .crash("run", &format!("trap: wasm trap: {trap}"));
    }
}

#[test]
fn a_crash_report_names_program_function_and_label() {
    let body = "(func $inner (param i32) (drop (i32.load (local.get 0))))
        (func $outer (call $inner (i32.const -4)))
        (func (export \"worker\") (call $outer))
        (func (export \"run\")
          (i32.store (i32.const 1024) (i32.const 6))
          (i32.store (i32.const 1032) (i32.const 4096))
          (i32.store (i32.const 1036) (i32.const 5))
          (call $must (i32.eq (i32.const -1)
            (call $try-start-with %\"worker\" (i32.const 1024) (i32.const 1) (i32.const 272))))
          (call $await-end (i32.const 272)))";
    let outcome = Atoll::run(guest(body)).outcome().code(0).stdout("");
    let crashes = outcome.crashes();
    let [crash] = &crashes[..] else {
        panic!("not one crash\n{outcome}")
    };
    assert_eq!(crash.program, "main");
    assert_eq!(crash.function, "worker");
    assert_eq!(crash.label.as_deref(), Some("\"worke\""));
    assert_eq!(crash.reason, "trap: wasm trap: out of bounds memory access");
    assert_eq!(&crash.backtrace[..2], ["inner", "outer"], "\n{outcome}");
    assert_eq!(crash.backtrace.len(), 3, "\n{outcome}");
}

#[test]
fn functions_without_names_have_the_numbers_of_the_file() {
    // Two imports, then function 2, which calls function 3.
    let text = "(module
        (import \"atoll-rt:process/lifecycle@0.2.0\" \"self\" (func (param i32)))
        (import \"atoll-rt:process/lifecycle@0.2.0\" \"argument\" (func (param i32)))
        (memory (export \"memory\") 1)
        (func (export \"run\") (call 3))
        (func unreachable)
        (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 64)))";
    let outcome = Atoll::run(text).outcome().code(134);
    let crash = outcome.crashes().pop().expect("there is a report");
    assert_eq!(crash.backtrace, ["function 3", "function 2"], "\n{outcome}");
}

#[test]
fn a_report_of_a_runaway_recursion_is_short() {
    let outcome = Atoll::run(guest("(func $deeper (export \"run\") (call $deeper))"))
        .outcome()
        .code(134)
        .crash("run", "trap: wasm trap: call stack exhausted");
    let crash = outcome.crashes().pop().expect("there is a report");
    assert!(
        !crash.backtrace.is_empty() && crash.backtrace.len() <= 32,
        "\n{outcome}"
    );
}

#[test]
fn a_report_of_a_long_name_is_short() {
    let name = "f".repeat(90_000);
    let guest = guest(&format!(
        "(func (export \"{name}\") unreachable) (func (export \"run\"))"
    ));
    let outcome = Atoll::run(guest)
        .options(["--function", &name])
        .outcome()
        .code(134);
    assert!(
        outcome.stderr.len() < 10_000,
        "{} bytes on standard error\n{outcome}",
        outcome.stderr.len()
    );
}

#[test]
fn quiet_means_no_reports() {
    let body = "(func (export \"worker\") unreachable)
        (func (export \"run\")
          (call $start %\"worker\" (i32.const 272))
          (call $await-end (i32.const 272))
          (call $print %\"done\"))";
    for option in ["-q", "--quiet"] {
        Atoll::run(guest(body))
            .options([option])
            .outcome()
            .code(0)
            .stdout("done\n")
            .stderr("");
    }
}

#[test]
fn exit_codes_of_wasi_programs_pass_through() {
    let exit = |code: u32| format!("(call $proc_exit (i32.const {code}))");
    for (code, expected) in [
        (0, 0),
        (1, 1),
        (3, 3),
        (125, 125),
        (126, 126),
        (134, 134),
        (255, 255),
        // Only the lowest eight bits of a code are kept, but a failure stays a failure.
        (256, 1),
        (257, 1),
        (512, 1),
        (0xffff_ffff, 255),
    ] {
        check(&exit(code), expected, "");
    }
    // The same by the contract's reason.
    for (code, expected) in [(3, 3), (255, 255), (256, 1)] {
        check(
            &format!("(call $exit (i32.const 9) (i32.const {code}) (i32.const 0))"),
            expected,
            "",
        );
    }
}

#[test]
fn a_wasi_exit_of_a_process_ends_only_that_process() {
    let body = "(func (export \"worker\") (call $proc_exit (i32.const 3)))
        (func (export \"run\")
          (call $start %\"worker\" (i32.const 272))
          (call $await-end (i32.const 272))
          (call $print %\"done\"))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("done\n")
        .stderr("");
}

#[test]
fn the_system_ends_with_main() {
    // Processes that still wait or run are ended without output.
    let body = "(func (export \"waits\") (drop (call $take-any)))
        (func (export \"spins\") (loop $for-ever (br $for-ever)))
        (func (export \"prints\") (loop $for-ever (call $print %\"x\") (br $for-ever)))
        (func (export \"run\")
          (call $start %\"waits\" (i32.const 272))
          (call $start %\"spins\" (i32.const 272))
          (call $start %\"spins\" (i32.const 272))
          (call $start %\"spins\" (i32.const 272))
          (call $yield-now))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("")
        .stderr("");
    let printing = body.replacen("%\"waits\"", "%\"prints\"", 1);
    Atoll::run(guest(&printing)).outcome().code(0).stderr("");
}

#[test]
fn nothing_is_lost_that_main_printed_before_it_ended() {
    let print = "(loop $next
          (call $print-number (local.get $count))
          (br_if $next (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 20000))))";
    let expected: String = (0..20000).map(|number| format!("{number}\n")).collect();
    prints(&format!("(local $count i32) {print}"), &expected);
    let guest = guest(&format!(
        "(func (export \"run\") (local $count i32) {print} (call $proc_exit (i32.const 3)))"
    ));
    Atoll::run(guest).outcome().code(3).stdout(&expected);
}
