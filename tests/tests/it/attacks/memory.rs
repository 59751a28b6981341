//! Memories that are smaller than a page, that grow, and that other processes had before: every access beyond the size traps,
//! and a new process sees only zeros.

use super::{OUT_OF_BOUNDS, component, valid};
use atoll_tests::{Atoll, Outcome, guest};
use std::fmt::Write;

/// The place of the tested memory, as fields of a module that calls it `$m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The only memory.
    First,
    /// The only memory, and only the module can name it.
    Private,
    /// A memory behind another one.
    Second,
    /// The only memory of a component's module.
    InComponent,
}

const PLACES: [Place; 4] = [
    Place::First,
    Place::Private,
    Place::Second,
    Place::InComponent,
];

impl Place {
    /// A guest with a memory of these limits, and functions that use it.
    fn guest(self, limits: &str, functions: &[(String, String)]) -> Vec<u8> {
        let memory = match self {
            Place::First => format!("(memory $m (export \"memory\") {limits})"),
            Place::Private | Place::InComponent => format!("(memory $m {limits})"),
            Place::Second => format!("(memory (export \"memory\") 1) (memory $m {limits})"),
        };
        let mut fields = memory;
        for (name, body) in functions {
            let _ = writeln!(fields, "(func (export \"{name}\") {body})");
        }
        let run = ("run".to_owned(), String::new());
        let names = functions.iter().chain([&run]).map(|(name, _)| &name[..]);
        fields += "(func (export \"run\"))";
        let text = match self {
            Place::InComponent => component(&fields, &names.collect::<Vec<_>>()),
            _ => format!("(module {fields})"),
        };
        valid(text)
    }
}

/// One function for each way to access the byte at an address, and whether other bytes may follow it.
fn accesses(prefix: &str, address: u32) -> Vec<(String, String)> {
    let at = format!("(i32.const {})", address.cast_signed());
    let operations = [
        format!("(drop (i32.load8_u $m {at}))"),
        format!("(drop (i64.load $m {at}))"),
        format!("(drop (v128.load $m {at}))"),
        format!("(i32.store8 $m {at} (i32.const 1))"),
        format!("(i64.store $m {at} (i64.const -1))"),
        format!("(v128.store $m {at} (v128.const i64x2 -1 -1))"),
        format!("(memory.fill $m {at} (i32.const 1) (i32.const 1))"),
        format!("(memory.copy $m $m {at} {at} (i32.const 1))"),
        // The address is an offset in the code, so the code computes nothing.
        format!("(i32.store8 $m offset={address} (i32.const 0) (i32.const 1))"),
    ];
    (0..)
        .zip(operations)
        .map(|(number, operation)| (format!("{prefix}-n{number}"), operation))
        .collect()
}

/// Main, which is in a program of its own, spawns these functions of the program `other` one after the other, each when the
/// one before has ended. Main itself ends well.
#[track_caller]
fn spawn_all<'a>(other: &[u8], names: impl IntoIterator<Item = &'a str>) -> Outcome {
    let mut run = String::new();
    for name in names {
        let _ = write!(
            run,
            "(call $must (i32.eq (i32.const -1)
               (call $try-start-in %\"other\" %\"{name}\" (i32.const 272))))
             (call $await-end (i32.const 272))"
        );
    }
    let main = guest(&format!(
        "(func (export \"run\") {run} (call $print %\"main goes on\"))"
    ));
    Atoll::run(main)
        .program("other", other)
        .outcome()
        .code(0)
        .stdout("main goes on\n")
}

/// A process tries to grow a memory with these limits by some pages; then the memory has this many bytes. The process can use
/// the last byte, and traps at every address behind it.
#[track_caller]
fn check_bounds(limits: &str, grown_pages: u32, bytes: u32) {
    let mut functions = Vec::new();
    let mut addresses: Vec<u32> = [0, 1, 4095, 4096, 65528, 65535, 65536, 65537, 131_064]
        .into_iter()
        .chain([bytes, bytes + 1, bytes + 4096, bytes + 65528])
        .chain([0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff])
        .filter(|address| *address >= bytes)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    for (number, address) in addresses.iter().enumerate() {
        functions.extend(accesses(&format!("a{number}"), *address));
    }
    let mut expected: Vec<String> = functions.iter().map(|(name, _)| name.clone()).collect();
    if bytes > 0 {
        let last = format!(
            "(i64.store $m (i32.const {0}) (i64.const 7)) (drop (i64.load $m (i32.const {0})))",
            bytes - 8
        );
        functions.push(("last".to_owned(), last));
    }
    for (_, body) in &mut functions {
        *body = format!("(drop (memory.grow $m (i32.const {grown_pages}))) {body}");
    }
    expected.sort();
    for place in PLACES {
        let outcome = spawn_all(
            &place.guest(limits, &functions),
            functions.iter().map(|(name, _)| &name[..]),
        );
        let mut trapped = Vec::new();
        for crash in outcome.crashes() {
            assert_eq!(crash.reason, OUT_OF_BOUNDS, "{place:?}\n{outcome}");
            trapped.push(crash.function);
        }
        trapped.sort();
        let missing: Vec<_> = expected
            .iter()
            .filter(|name| !trapped.contains(name))
            .collect();
        assert!(
            missing.is_empty() && trapped.len() == expected.len(),
            "`(memory {limits})`, {place:?}: {} of {} accesses did not trap: {missing:?}",
            missing.len(),
            expected.len()
        );
    }
}

#[test]
fn a_memory_of_no_pages_traps_at_every_address() {
    for limits in ["0 0", "0 1", "0 2", "0 65536", "0"] {
        check_bounds(limits, 0, 0);
    }
}

#[test]
fn a_memory_that_could_not_grow_traps_at_every_address() {
    for (limits, pages) in [("0 0", 1), ("0 1", 2), ("0 1", 65536), ("0", 65536)] {
        check_bounds(limits, pages, 0);
    }
}

#[test]
fn a_memory_that_has_grown_from_nothing_traps_behind_its_end() {
    for (limits, pages) in [("0 1", 1), ("0 2", 1), ("0", 1), ("0 2", 2), ("0", 17)] {
        check_bounds(limits, pages, pages << 16);
    }
}

#[test]
fn a_memory_of_one_page_traps_behind_it() {
    for limits in ["1 1", "1 2", "1"] {
        check_bounds(limits, 0, 65536);
    }
}

#[test]
fn a_memory_that_the_limit_keeps_below_a_page_traps_at_every_address() {
    // Main is the guest itself, because no other program may have such a small memory.
    for place in PLACES.into_iter().filter(|place| *place != Place::Second) {
        for (limits, max_memory) in [("0 1", "0"), ("0 1", "65535"), ("0", "4096")] {
            let body = "(drop (memory.grow $m (i32.const 1)))
                (i32.store8 $m (i32.const 64) (i32.const 1))";
            let functions = [("writes".to_owned(), body.to_owned())];
            Atoll::run(place.guest(limits, &functions))
                .options(["--max-memory", max_memory, "--function", "writes"])
                .outcome()
                .code(134)
                .crash("writes", OUT_OF_BOUNDS);
        }
    }
}

#[test]
fn data_does_not_fit_into_a_memory_of_no_pages() {
    for limits in ["0 0", "0 1", "0"] {
        for data in ["(data (i32.const 0) \"x\")", "(data (i32.const 1) \"\")"] {
            let text = format!("(module (memory {limits}) {data} (func (export \"run\")))");
            Atoll::run(valid(text))
                .outcome()
                .code(1)
                .stdout("")
                .stderr_has("main.wat` can't be started: ")
                .stderr_has("out of bounds memory access");
        }
    }
}

#[test]
fn host_calls_write_nothing_into_a_memory_of_no_pages() {
    let text = "(module
        (import \"atoll-rt:process/lifecycle@0.2.0\" \"self\" (func $self (param i32)))
        (import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))
        (memory (export \"memory\") 0 1)
        (func (export \"asks\") (call $self (i32.const 0)))
        ;; The call may return an error or trap. After growth the process must not see old contents.
        (func (export \"randomizes\")
          (drop (call $random (i32.const 0) (i32.const 8)))
          (drop (memory.grow (i32.const 1)))
          (if (i64.ne (i64.load (i32.const 0)) (i64.const 0)) (then (call $saw-more))))
        (func $saw-more unreachable)
        (func (export \"run\")))";
    let outcome = spawn_all(&valid(text), ["asks", "randomizes"]);
    let crashes = outcome.crashes();
    let asks: Vec<_> = crashes
        .iter()
        .filter(|crash| crash.function == "asks")
        .map(|crash| &crash.reason[..])
        .collect();
    let outside = "trap: self (address 0x0, 16 bytes) lies outside of the memory (0x0 bytes)";
    assert_eq!(asks, [outside], "{outcome}");
    let saw = crashes
        .iter()
        .any(|crash| crash.backtrace.iter().any(|name| name == "saw-more"));
    assert!(!saw, "{outcome}");
}

/// Stores ones as far as it can: a page, for any size of memory.
const SCRIBBLE: &str = "(local $at i32)
    (loop $next
      (i64.store $m (local.get $at) (i64.const 0x5a5a5a5a5a5a5a5a))
      (br_if $next (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))";

/// Traps if the grown memory holds anything but zeros, and then fills it.
fn look(grown_pages: u32) -> String {
    format!(
        "(local $at i32)
         (if (i32.eq (memory.grow $m (i32.const {grown_pages})) (i32.const -1)) (then (unreachable)))
         (loop $next
           (if (i64.ne (i64.load $m (local.get $at)) (i64.const 0)) (then (unreachable)))
           (i64.store $m (local.get $at) (i64.const -1))
           (br_if $next (i32.lt_u
             (local.tee $at (i32.add (local.get $at) (i32.const 8)))
             (i32.shl (memory.size $m) (i32.const 16)))))"
    )
}

/// Writers begin and end. After each of them, processes look at their memory and see zeros. The host uses the slots and
/// instances again many times. All are given as programs and their functions.
#[track_caller]
fn check_zeros(programs: &[(String, Vec<u8>)], writers: &[(&str, &str)], lookers: &[(&str, &str)]) {
    const ROUNDS: usize = 20;
    let mut round = String::new();
    let spawn = |round: &mut String, (program, function): &(&str, &str)| {
        let _ = write!(
            round,
            "(call $must (i32.eq (i32.const -1)
               (call $try-start-in %\"{program}\" %\"{function}\" (i32.const 272))))
             (call $await-end (i32.const 272))"
        );
    };
    for writer in writers {
        spawn(&mut round, writer);
        for looker in lookers {
            spawn(&mut round, looker);
        }
    }
    let main = guest(&format!(
        "(func (export \"run\") (local $round i32)
           (loop $again {round}
             (br_if $again (i32.lt_u
               (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const {ROUNDS})))))"
    ));
    for schedulers in ["1", "2"] {
        let mut atoll = Atoll::run(&main).options(["--schedulers", schedulers]);
        for (name, program) in programs {
            atoll = atoll.program(name, program);
        }
        let outcome = atoll.outcome().code(0);
        let crashes = outcome.crashes();
        let saw = crashes
            .iter()
            .filter(|crash| crash.reason != OUT_OF_BOUNDS)
            .count();
        assert!(
            saw == 0,
            "{saw} processes began with what others had written\n{outcome}"
        );
        assert!(
            crashes.len() == writers.len() * ROUNDS,
            "{} of {} writers were stopped\n{outcome}",
            crashes.len(),
            writers.len() * ROUNDS
        );
    }
}

fn named(name: &str, body: String) -> [(String, String); 1] {
    [(name.to_owned(), body)]
}

#[test]
fn processes_of_other_programs_see_zeros_after_one_that_writes_where_it_has_no_memory() {
    let mut programs = Vec::new();
    for (number, place) in PLACES.into_iter().enumerate() {
        let writer = place.guest("0 1", &named("scribbles", SCRIBBLE.to_owned()));
        programs.push((format!("writer-{number}"), writer));
        // One page; a page added by growth; a large slot.
        for (limits, grown_pages) in [("1 1", 0), ("0 1", 1), ("1 2", 1), ("20 21", 1)] {
            let looker = place.guest(limits, &named("looks", look(grown_pages)));
            programs.push((format!("looker-{}", programs.len()), looker));
        }
    }
    let all = |prefix: &str, function: &'static str| -> Vec<(&str, &str)> {
        let names = programs.iter().map(|(name, _)| &name[..]);
        names
            .filter(|name| name.starts_with(prefix))
            .map(|name| (name, function))
            .collect()
    };
    check_zeros(
        &programs,
        &all("writer", "scribbles"),
        &all("looker", "looks"),
    );
}

#[test]
fn processes_of_the_same_program_see_zeros_after_one_that_writes_where_it_has_no_memory() {
    for place in PLACES {
        let functions = [
            named("scribbles", SCRIBBLE.to_owned()),
            named("looks", look(1)),
        ];
        let program = place.guest("0 1", functions.as_flattened());
        let looks = ("both", "looks");
        check_zeros(
            &[("both".to_owned(), program)],
            &[("both", "scribbles")],
            &[looks, looks, looks],
        );
    }
}
