//! Programs, functions and arguments: what a process can spawn, and what the new process gets.

use crate::prints;
use atoll_tests::{Atoll, bare_guest, guest, tied_guest};

#[test]
fn functions_that_are_not_there() {
    // unknown-program is case 0, unknown-function case 1. Exports with parameters or results can't be spawned, nor can
    // exported imports or memories.
    let body = "(func (export \"takes\") (param i32))
        (func (export \"returns\") (result i32) (i32.const 1))
        (export \"imported\" (func $yield-now))
        (func $private)
        (func (export \"run\")
          (call $print-number (call $try-start-in %\"nobody\" %\"neighbour\" (i32.const 272)))
          (call $print-number (call $try-start %\"nobody\" (i32.const 272)))
          (call $print-number (call $try-start %\"takes\" (i32.const 272)))
          (call $print-number (call $try-start %\"returns\" (i32.const 272)))
          (call $print-number (call $try-start %\"imported\" (i32.const 272)))
          (call $print-number (call $try-start %\"private\" (i32.const 272)))
          (call $print-number (call $try-start %\"memory\" (i32.const 272)))
          (call $print-number (call $try-start %\"cabi_realloc\" (i32.const 272)))
          (call $print-number (call $try-start %\"atoll:entry/run\" (i32.const 272)))
          (call $print-number (call $try-start %\"neighbour\" (i32.const 272))))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("0\n1\n1\n1\n1\n1\n1\n1\n1\n4294967295\n");
}

#[test]
fn the_empty_name_is_the_entry() {
    // The argument tells the spawned entry from main.
    let body = "(func (export \"run\")
          (call $argument (i32.const 176))
          (if (i32.load (i32.const 180))
            (then (call $parent (i32.const 256)) (call $post (i32.const 256) (i32.const 7)))
            (else
              (call $start (i32.const 0) (i32.const 0) (i32.const 272))
              (call $print-number (call $take-any)))))";
    Atoll::run(guest(body)).outcome().code(0).stdout("7\n");
}

#[test]
fn processes_of_other_programs() {
    // The other program has a function of the same name, and a memory of its own.
    let main = "(func (export \"worker\") unreachable)
        (func (export \"run\")
          (call $must (i32.eq (i32.const -1)
            (call $try-start-in %\"other\" %\"worker\" (i32.const 272))))
          (call $print-number (call $take-any))
          (call $must (i32.eq (i32.const -1)
            (call $try-start-in %\"other\" (i32.const 0) (i32.const 0) (i32.const 272))))
          (call $print-number (call $take-any))
          (call $must (i32.eq (i32.const -1)
            (call $try-start-in %\"third\" %\"run\" (i32.const 272))))
          (call $print-number (call $take-any)))";
    let reports = |tag: u32| {
        format!("(call $parent (i32.const 256)) (call $post (i32.const 256) (i32.const {tag}))")
    };
    let other = bare_guest(&format!(
        "(func (export \"worker\") {}) (func (export \"run\") {})",
        reports(11),
        reports(12)
    ));
    // This process spawns a worker of the other program, and main by the name of its file.
    let third = guest(&format!(
        "(func (export \"run\")
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"other\" %\"worker\" (i32.const 272))))
           (drop (call $take-any))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"main\" %\"neighbour\" (i32.const 272))))
           (call $must (i32.eq (call $ask (i32.const 272)) (i32.const 1)))
           {})",
        reports(13)
    ));
    Atoll::run(guest(main))
        .program("other", other)
        .program("third", third)
        .outcome()
        .code(0)
        .stdout("11\n12\n13\n")
        .stderr("");
}

#[test]
fn the_first_process_can_be_any_function() {
    let body = "(func (export \"worker\") (call $print %\"worker\"))
        (func (export \"run\") (call $print %\"run\"))";
    for (function, stdout) in [("worker", "worker\n"), ("run", "run\n"), ("", "run\n")] {
        Atoll::run(guest(body))
            .options(["--function", function])
            .outcome()
            .code(0)
            .stdout(stdout);
    }
}

#[test]
fn a_function_that_the_program_has_not() {
    let body = "(func (export \"worker\")) (func (export \"run\"))";
    Atoll::run(guest(body))
        .options(["--function", "nobody"])
        .outcome()
        .code(1)
        .stdout("")
        .stderr_has("can't be started: the program has no such function")
        .stderr_has("hint: its functions are: neighbour, worker, run");
}

#[test]
fn the_argument_of_the_first_process() {
    let body = "(func (export \"run\")
          (call $argument (i32.const 176))
          (call $print (i32.load (i32.const 176)) (i32.load (i32.const 180)))
          (call $argument (i32.const 1024))
          (call $print (i32.load (i32.const 1024)) (i32.load (i32.const 1028))))";
    for argument in ["", "some text", "ünïcödé"] {
        Atoll::run(guest(body))
            .options(["--argument", argument])
            .outcome()
            .code(0)
            .stdout(&format!("{argument}\n{argument}\n"));
    }
    Atoll::run(guest(body)).outcome().code(0).stdout("\n\n");
}

#[test]
fn arguments_of_other_processes_are_copied() {
    // The parent changes its memory at once. The child has the contents from the moment of the spawn.
    let body = "(func (export \"child\")
          (call $argument (i32.const 176))
          (call $print (i32.load (i32.const 176)) (i32.load (i32.const 180)))
          (call $print-number (i32.load8_u (i32.const 1024))))
        (func (export \"run\")
          (i32.store8 (i32.const 1024) (i32.const 9))
          (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"child\" %\"as it was\"
            (i32.const 0) (i32.const 0) (i32.const 64))
          (memory.fill (i32.const 4096) (i32.const 0) (i32.const 1000))
          (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 272))))
          (call $await-end (i32.const 272)))";
    Atoll::run(guest(body))
        .options(["--schedulers", "1"])
        .outcome()
        .code(0)
        .stdout("as it was\n0\n");
}

#[test]
fn processes_share_no_memory_globals_or_tables() {
    let body = "(global $state (mut i32) (i32.const 1))
        (table $table 1 funcref) (elem declare func $neighbour)
        (func (export \"child\")
          (call $parent (i32.const 256))
          (call $must (i32.eq (global.get $state) (i32.const 1)))
          (call $must (i32.eqz (i32.load (i32.const 0x1f000))))
          (call $must (ref.is_null (table.get $table (i32.const 0))))
          (global.set $state (i32.const 2))
          (i32.store (i32.const 0x1f000) (i32.const 2))
          (table.set $table (i32.const 0) (ref.func $neighbour))
          (call $post (i32.const 256) (i32.const 5)))
        (func (export \"run\")
          (local $count i32)
          (loop $again
            (call $start %\"child\" (i32.const 272))
            (call $take (i32.const 5))
            (call $await-end (i32.const 272))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 200))))
          (call $print-number (local.get $count)))";
    // Memory that a later process uses again holds nothing of the process before, for small and large memories.
    Atoll::run(guest(body)).outcome().code(0).stdout("200\n");
    let grown = body.replace(
        "(func (export \"child\")",
        "(func (export \"child\") (drop (memory.grow (i32.const 100)))
           (call $must (i32.eqz (i32.load (i32.const 0x600000))))
           (call $must (i32.eqz (i32.load (i32.const 0x3f000))))
           (i32.store (i32.const 0x600000) (i32.const 3))
           (i32.store (i32.const 0x3f000) (i32.const 3))",
    );
    Atoll::run(guest(&grown)).outcome().code(0).stdout("200\n");
}

#[test]
fn pids_are_never_used_again() {
    let body = "(local $count i32)
        (call $start %\"leaf\" (i32.const 256))
        (call $await-end (i32.const 256))
        (loop $again
          (call $start %\"leaf\" (i32.const 272))
          (call $must (i64.ne (i64.load (i32.const 264)) (i64.load (i32.const 280))))
          (call $must (i32.eqz (call $is-alive (i64.load (i32.const 256)) (i64.load (i32.const 264)))))
          (call $await-end (i32.const 272))
          (br_if $again (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 2000))))
        (call $print-number (local.get $count))";
    Atoll::run(guest(&format!(
        "(func (export \"leaf\")) (func (export \"run\") {body})"
    )))
    .outcome()
    .code(0)
    .stdout("2000\n");
}

#[test]
fn labels_are_cut() {
    // A text of 300 times "a" is cut to 255.
    let body = "(func (export \"worker\") unreachable)
        (func (export \"run\")
          (memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 300))
          (i32.store (i32.const 1024) (i32.const 6))
          (i32.store (i32.const 1032) (i32.const 0x10000))
          (i32.store (i32.const 1036) (i32.const 300))
          (call $must (i32.eq (i32.const -1)
            (call $try-start-with %\"worker\" (i32.const 1024) (i32.const 1) (i32.const 272))))
          (call $await-end (i32.const 272)))";
    let outcome = Atoll::run(guest(body)).outcome().code(0);
    let label = outcome.crashes().pop().and_then(|crash| crash.label);
    assert_eq!(label, Some(format!("{:?}", "a".repeat(255))), "\n{outcome}");
}

#[test]
fn a_process_knows_itself_alive() {
    prints(
        "(call $self (i32.const 16))
         (call $print-number (call $is-alive (i64.load (i32.const 16)) (i64.load (i32.const 24))))",
        "1\n",
    );
}

#[test]
fn a_spawn_links_monitors_names_and_prioritises() {
    // Elements of 24 bytes at 2208: link (0), monitor (1) with a reference, name (2), priority (3) high (2). The child ends
    // at once, with a reason. It was linked, monitored and named before that.
    let body = "(func (export \"child\")
          (call $print-number (call $set-priority (i32.const 0)))
          (call $self (i32.const 16))
          (call $must (call $is-named %\"one\" (i32.const 16)))
          (call $exit (i32.const 10) %\"why\"))
        (func (export \"run\")
          (call $trap-exits)
          (call $make-reference (i32.const 192))
          (i32.store8 (i32.const 2208) (i32.const 0))
          (i32.store8 (i32.const 2232) (i32.const 1))
          (call $copy-id (i32.const 192) (i32.const 2240))
          (i32.store8 (i32.const 2256) (i32.const 2))
          (i32.store (i32.const 2264) (i32.const 2320)) (i32.store (i32.const 2268) (i32.const 3))
          (memory.copy (i32.const 2320) %\"one\")
          (i32.store8 (i32.const 2280) (i32.const 3)) (i32.store8 (i32.const 2288) (i32.const 2))
          (call $print-number
            (call $try-start-with %\"child\" (i32.const 2208) (i32.const 4) (i32.const 272)))
          (call $print-number (call $take-exit))
          (call $print (i32.load (i32.const 132)) (i32.load (i32.const 136)))
          (call $must (call $same (i32.const 112) (i32.const 272)))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $must (call $same (i32.const 136) (i32.const 272)))
          (call $must (call $is-nobody %\"one\"))
          (call $must (call $is-empty)))";
    Atoll::run(tied_guest(body))
        .options(["--schedulers", "1"])
        .outcome()
        .code(0)
        .stdout("4294967295\n2\n10\nwhy\n10\n")
        .stderr("");
}

#[test]
fn a_link_of_a_spawn_ends_a_parent_that_does_not_trap_exits() {
    let body = "(func (export \"child\") (call $exit (i32.const 10) %\"why\"))
        (func (export \"run\")
          (i32.store8 (i32.const 2208) (i32.const 0))
          (drop (call $try-start-with %\"child\" (i32.const 2208) (i32.const 1) (i32.const 272)))
          (drop (call $take-any))
          (call $print %\"it does not come to this\"))";
    Atoll::run(tied_guest(body))
        .outcome()
        .code(1)
        .stdout("")
        .stderr("atoll: main ended: \"why\"\n");
}

#[test]
fn names_that_a_spawn_can_not_give() {
    // name-taken is case 5; a bad name is `other`, case 8, with a text. The failed spawn leaves nothing behind.
    let body = "(func $try (param $name i32) (param $bytes i32)
          (i32.store8 (i32.const 2208) (i32.const 2))
          (i32.store (i32.const 2216) (local.get $name)) (i32.store (i32.const 2220) (local.get $bytes))
          (call $print-number
            (call $try-start-with %\"stays\" (i32.const 2208) (i32.const 1) (i32.const 272))))
        (func (export \"run\")
          (local $count i32)
          (call $try %\"one\")
          (call $try %\"one\")
          (memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 256))
          (call $try (i32.const 0x10000) (i32.const 255))
          (call $try (i32.const 0x10000) (i32.const 256))
          (call $print (i32.load (i32.const 76)) (i32.load (i32.const 80)))
          (call $try (i32.const 0x10000) (i32.const 0))
          (call $try %\"two\")
          (loop $again
            (call $must (i32.eq (i32.const 5)
              (call $try-start-with %\"stays\" (i32.const 2208) (i32.const 1) (i32.const 272))))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
          (call $print %\"as many as there may be\")
          (call $print-number (call $try-start %\"stays\" (i32.const 272)))
          (call $print-number (call $try-start %\"stays\" (i32.const 272))))";
    Atoll::run(tied_guest(body))
        .options(["--max-processes", "5"])
        .outcome()
        .code(0)
        .stdout(
            "4294967295\n5\n4294967295\n8\na name has 1 to 255 bytes\n8\n4294967295\n\
             as many as there may be\n4294967295\n2\n",
        )
        .stderr("");
}

#[test]
fn a_reference_in_use_can_not_start_another_monitor() {
    // The same reference twice in one spawn is one monitor. A second spawn with it fails (8, `other`) until the reference has
    // been used up.
    let body = "(func $try (param $count i32)
          (call $print-number
            (call $try-start-with %\"stays\" (i32.const 2208) (local.get $count) (i32.const 272))))
        (func (export \"run\")
          (call $make-reference (i32.const 192))
          (i32.store8 (i32.const 2208) (i32.const 1)) (call $copy-id (i32.const 192) (i32.const 2216))
          (i32.store8 (i32.const 2232) (i32.const 1)) (call $copy-id (i32.const 192) (i32.const 2240))
          (call $try (i32.const 2))
          (call $copy-id (i32.const 272) (i32.const 256))
          (call $try (i32.const 1))
          (call $signal (i32.const 256) (i32.const 3))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $must (call $same (i32.const 136) (i32.const 256)))
          (call $must (call $is-empty))
          (call $try (i32.const 1))
          (call $end (i32.const 272))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $must (call $is-empty)))";
    Atoll::run(tied_guest(body))
        .outcome()
        .code(0)
        .stdout("4294967295\n8\n4\n4294967295\n4\n")
        .stderr("");
}
