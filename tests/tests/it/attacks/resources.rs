//! A program costs the host more than its memory: processes pay for the parts of their instances, and a host with little
//! address space still runs.

use super::valid;
use atoll_tests::{Atoll, Outcome, guest};

/// The limit of one process in these tests.
const MAX_MEMORY: [&str; 2] = ["--max-memory", "1MiB"];
/// The number of processes of a costly program that main spawns.
const PROCESSES: u64 = 100;
/// Each of them may cost the host its limit, and as much again for everything else that belongs to a process.
const BYTES_EACH: u64 = 2 << 20;
/// The host itself may need this much. Loading is another matter.
const BYTES_BESIDE: u64 = 64 << 20;

/// Did the program end like a process that exceeds its limit, or like a program that can't be loaded or started?
///
/// All three outcomes are right. A host can count the cost of an instance when it has compiled the module, when it makes the
/// instance, or on the process's account.
#[track_caller]
fn is_loaded(outcome: &Outcome) -> bool {
    let says = |text: &str| outcome.stderr.contains(text);
    let is_refused = outcome.code == Some(1) && says("` can't be loaded: ") && says("\n  hint: ");
    let is_not_started = outcome.code == Some(1) && says("` can't be started: ");
    let is_exhausted = outcome.code == Some(138) && says("\n  reason: exhausted: memory");
    assert!(
        is_refused || is_not_started || is_exhausted,
        "its instance is larger than what a process may hold, and nobody minds\n{outcome}"
    );
    !is_refused
}

/// If a program's instances take more of the host than a process may hold, the host refuses the program or ends its
/// processes. Many of them cost the host little.
#[track_caller]
fn check_costly(fields: &str) {
    let costly = valid(format!("(module {fields} (func (export \"run\")))"));
    let outcome = Atoll::run(&costly).options(MAX_MEMORY).outcome();
    if !is_loaded(&outcome) {
        return;
    }
    // A neighbour goes on, whether the spawns succeed or not.
    let main = |processes: u64| {
        guest(&format!(
            "(func (export \"run\") (local $count i32)
               (call $start %\"neighbour\" (i32.const 256))
               (loop $again
                 (if (i32.eq (i32.const -1)
                       (call $try-start-in %\"costly\" %\"run\" (i32.const 272)))
                   (then (call $await-end (i32.const 272))))
                 (br_if $again (i32.lt_u
                   (local.tee $count (i32.add (local.get $count) (i32.const 1)))
                   (i32.const {processes}))))
               (call $must (i32.eq (call $ask (i32.const 256)) (i32.const 1)))
               (call $print %\"spawned\")
               (drop (call $take-any)))"
        ))
    };
    let resident_bytes = |processes: u64| {
        let mut running = Atoll::run(main(processes))
            .program("costly", &costly)
            .options(MAX_MEMORY)
            .option("--quiet")
            .start();
        running.until_stdout("spawned\n");
        let bytes = running.peak_memory_bytes();
        running.signal(atoll_tests::Signal::TERM);
        running.outcome().stopped_by(atoll_tests::Signal::TERM);
        bytes
    };
    let (one, many) = (resident_bytes(1), resident_bytes(PROCESSES));
    let bytes_max = one + PROCESSES * BYTES_EACH + BYTES_BESIDE;
    assert!(
        many <= bytes_max,
        "{PROCESSES} processes take {many} bytes, and one takes {one}"
    );
}

#[test]
fn an_instance_with_many_globals_is_paid_for() {
    check_costly(&"(global (mut v128) (v128.const i64x2 0 0))".repeat(900_000));
}

#[test]
fn an_instance_with_many_constant_globals_is_paid_for() {
    check_costly(&"(global i64 (i64.const 1))".repeat(900_000));
}

#[test]
fn an_instance_with_a_large_table_is_paid_for() {
    check_costly("(table 900000 funcref)");
}

#[test]
fn an_instance_with_many_functions_that_are_mentioned_is_paid_for() {
    let functions = "(func)".repeat(60_000);
    let indexes: String = (0..60_000).map(|index| format!(" {index}")).collect();
    check_costly(&format!(
        "{functions} (elem declare func {indexes}) (func (drop (ref.func 1)))"
    ));
}

#[test]
fn a_table_grows_no_further_than_its_process_may_hold() {
    // An element takes at least eight bytes of the host.
    let body = "(table $table 0 funcref)
        (func (export \"run\")
          (loop $again
            (br_if $again (i32.ne (i32.const -1)
              (table.grow $table (ref.null func) (i32.const 1000)))))
          (call $must (i32.le_u (table.size $table) (i32.const 131072)))
          (call $print %\"bounded\"))";
    Atoll::run(guest(body))
        .options(MAX_MEMORY)
        .outcome()
        .code(0)
        .stdout("bounded\n")
        .stderr("");
}

/// A module and a component that end well if they find their stored values again.
fn small_programs() -> [Vec<u8>; 2] {
    let fields = "(memory $m (export \"memory\") 1 40)
        (func (export \"run\")
          (i32.store (i32.const 65532) (i32.const 7))
          (if (i32.eq (memory.grow (i32.const 30)) (i32.const -1)) (then (unreachable)))
          (if (i32.ne (i32.load (i32.const 65532)) (i32.const 7)) (then (unreachable))))";
    [
        valid(format!("(module {fields})")),
        valid(super::component(fields, &["run"])),
    ]
}

#[test]
fn eight_gibibytes_of_address_space_are_enough_for_a_small_program() {
    for program in small_programs() {
        for gib in [32, 16, 8] {
            let run = Atoll::run(&program).after(format!("ulimit -v {}", gib << 20));
            run.outcome().code(0).stdout("").stderr("");
        }
    }
}

#[test]
fn less_address_space_is_enough_or_is_said_to_be_too_little() {
    for program in small_programs() {
        for mib in [4096, 2048, 1024, 512, 256] {
            let run = Atoll::run(&program).after(format!("ulimit -v {}", mib << 10));
            let outcome = run.outcome();
            let runs = outcome.code == Some(0) && outcome.stderr.is_empty();
            let says = outcome.code == Some(1) && outcome.stderr.starts_with("error: ");
            assert!(runs || says, "it neither runs nor says why\n{outcome}");
        }
    }
}

#[test]
fn processes_hold_no_more_together_than_there_is() {
    // Forty megabytes each: two at once exceed the limit, one after the other do not.
    let body = "
        (func (export \"hog\") (call $print-number (memory.grow (i32.const 640))))
        (func (export \"run\")
          (call $start %\"hog\" (i32.const 256))
          (call $await-end (i32.const 256))
          (call $print-number (memory.grow (i32.const 640)))
          (call $start %\"hog\" (i32.const 256))
          (call $await-end (i32.const 256)))";
    Atoll::run(atoll_tests::guest(body))
        .options(["--max-total-memory", "64MiB"])
        .outcome()
        .code(0)
        .stdout("2\n2\n4294967295\n")
        .stderr("");
}
