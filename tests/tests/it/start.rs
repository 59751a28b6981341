//! Code that runs before a process's function: start functions and `_initialize`. It is the process's own code.

use atoll_tests::{Atoll, Guest, bare_guest, guest};

/// The two ways to run code first.
const FIRST: [&str; 2] = [
    "(func $first BODY) (start $first)",
    "(func $first (export \"_initialize\") BODY)",
];

fn first(way: &str, body: &str) -> String {
    way.replace("BODY", body)
}

/// Main calls a neighbour, starts `victim` of the program `other`, and goes on calling until the neighbour has answered 100
/// times.
fn main_with_neighbour(wait: &str) -> String {
    guest(&format!(
        "(func (export \"run\")
           (call $start %\"neighbour\" (i32.const 256))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"other\" %\"victim\" (i32.const 272))))
           {wait}
           (loop $again
             (br_if $again (i32.lt_u (call $ask (i32.const 256)) (i32.const 100))))
           (call $print %\"the neighbour answers\"))"
    ))
}

#[test]
fn a_start_function_that_traps() {
    let reason = "trap: wasm trap: wasm `unreachable` instruction executed";
    for way in FIRST {
        let victim = bare_guest(&format!(
            "{} (func (export \"victim\")) (func (export \"run\"))",
            first(way, "(unreachable)")
        ));
        Atoll::run(&victim).outcome().code(134).crash("run", reason);
        Atoll::run(main_with_neighbour("(call $await-end (i32.const 272))"))
            .program("other", &victim)
            .outcome()
            .code(0)
            .stdout("the neighbour answers\n")
            .crash("victim", reason);
    }
}

#[test]
fn a_start_function_that_never_ends() {
    for way in FIRST {
        let victim = bare_guest(&format!(
            "{} (func (export \"victim\")) (func (export \"run\"))",
            first(way, "(loop $for-ever (br $for-ever))")
        ));
        for schedulers in ["1", "2"] {
            Atoll::run(main_with_neighbour(""))
                .program("other", &victim)
                .options(["--schedulers", schedulers])
                .outcome()
                .code(0)
                .stdout("the neighbour answers\n")
                .stderr("");
        }
    }
}

#[test]
fn a_start_function_that_recurses_without_end() {
    for way in FIRST {
        let victim = bare_guest(&format!(
            "{} (func (export \"victim\")) (func (export \"run\"))",
            first(way, "(call $first)")
        ));
        Atoll::run(&victim)
            .outcome()
            .code(134)
            .crash("run", "trap: wasm trap: call stack exhausted");
    }
}

#[test]
fn nothing_of_a_program_runs_when_it_is_loaded() {
    // Both would trap, but no process of the program runs.
    for way in FIRST {
        let idle = bare_guest(&format!(
            "{} (func (export \"run\"))",
            first(way, "(unreachable)")
        ));
        Atoll::run(guest("(func (export \"run\"))"))
            .program("other", &idle)
            .outcome()
            .code(0)
            .stderr("");
        Atoll::inspect(&idle).outcome().code(0).stderr("");
    }
}

#[test]
fn a_start_function_may_print_spawn_and_wait() {
    for way in FIRST {
        let body = "(if (i32.eqz (global.get $child))
               (then
                 (global.set $child (i32.const 1))
                 (call $print %\"first\")
                 (call $self (i32.const 16))
                 (call $post (i32.const 16) (i32.const 5))
                 (call $take (i32.const 5))))";
        Atoll::run(guest(&format!(
            "(global $child (mut i32) (i32.const 0))
             {}
             (func (export \"run\") (call $print %\"then\"))",
            first(way, body)
        )))
        .outcome()
        .code(0)
        .stdout("first\nthen\n")
        .stderr("");
    }
}

#[test]
fn every_process_starts_with_code_of_its_own() {
    // Start function, then `_initialize`, then the function: once for each process.
    let body = "(global $steps (mut i32) (i32.const 0))
        (func $begin (global.set $steps (i32.const 1))) (start $begin)
        (func (export \"_initialize\") (global.set $steps (i32.mul (global.get $steps) (i32.const 10))))
        (func (export \"child\")
          (call $parent (i32.const 256))
          (global.set $steps (i32.add (global.get $steps) (i32.const 7)))
          (call $post (i32.const 256) (global.get $steps)))
        (func (export \"run\")
          (call $print-number (global.get $steps))
          (call $start %\"child\" (i32.const 256))
          (call $print-number (call $take-any))
          (call $start %\"child\" (i32.const 256))
          (call $print-number (call $take-any)))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("10\n17\n17\n")
        .stderr("");
}

#[test]
fn a_command_initializes_itself() {
    // WASI's reactors have `_initialize` and its commands `_start`. If there are both, `_start` calls what it needs.
    let body = "(func (export \"_initialize\") (call $print %\"initialized\"))
        (func (export \"_start\") (call $print %\"started\"))
        (func (export \"other\") (call $print %\"other\"))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("started\n");
    Atoll::run(guest(body))
        .options(["--function", "other"])
        .outcome()
        .code(0)
        .stdout("initialized\nother\n");
}

#[test]
fn an_import_may_be_the_start_function() {
    let text = Guest {
        body: "(start $yield-now) (func (export \"run\") (call $print %\"done\"))",
        ..Guest::default()
    }
    .text();
    Atoll::run(text).outcome().code(0).stdout("done\n");
}
