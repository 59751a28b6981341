//! Limits of the operating system: the guest gets an error number, and the program reports the missing resource.

use super::{granting, guest, temporary_folder};
use atoll_tests::{Atoll, Outcome};

/// Exits with 7.
const SEVEN: &str = "(func (export \"run\") (call $proc_exit (i32.const 7)))";

/// The program has run to its end, or reports in an orderly way why it can't.
#[track_caller]
fn check_runs_or_says_why(outcome: Outcome) {
    let says_why = outcome.code == Some(1)
        && outcome.stderr.starts_with("error: ")
        && !outcome.stderr.contains("panicked");
    assert!(
        outcome.code == Some(7) || says_why,
        "it neither runs nor says why\n{outcome}"
    );
}

#[test]
fn a_file_that_may_not_grow_is_an_error_for_the_guest_alone() {
    let folder = temporary_folder();
    // 64 KiB at a time, until it fails: at most 10 MiB.
    let body = "(func (export \"run\")
          (local $file i32) (local $error i32) (local $count i32)
          (call $must (i32.eqz (call $open %\"file\" (i32.const 1) (i64.const 64))))
          (local.set $file (call $opened))
          (block $end
            (loop $again
              (br_if $end (local.tee $error
                (call $write-to (local.get $file) (i32.const 0x10000) (i32.const 0x10000))))
              (br_if $again (i32.lt_u
                (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 160)))))
          (call $print-number (local.get $error)))";
    // EFBIG is 22.
    granting(Atoll::run(guest(body)), folder.path())
        .after("ulimit -f 1024")
        .outcome()
        .code(0)
        .stdout("22\n")
        .stderr("");
}

/// Opens files until that fails, and reports the error number. Then it closes one and opens one again.
const OPENS_ALL: &str = "(func (export \"run\")
      (local $error i32) (local $count i32) (local $first i32)
      (call $must (i32.eqz (call $open %\"file\" (i32.const 1) (i64.const 66))))
      (local.set $first (call $opened))
      (block $end
        (loop $again
          (br_if $end (local.tee $error (call $open %\"file\" (i32.const 0) (i64.const 66))))
          (br_if $again (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 5000)))))
      (call $print-number (local.get $error))
      (call $print-number (call $fd_close (local.get $first)))
      (call $print-number (call $open %\"file\" (i32.const 0) (i64.const 66)))
      (call $print-number (call $write-to (call $opened) (i32.const 4096) (i32.const 1))))";

/// EMFILE is 33. The calls after it succeed.
const TOO_MANY: &str = "33\n0\n0\n0\n";

#[test]
fn the_host_has_no_more_descriptors() {
    let folder = temporary_folder();
    granting(Atoll::run(guest(OPENS_ALL)), folder.path())
        .after("ulimit -n 64")
        .outcome()
        .code(0)
        .stdout(TOO_MANY)
        .stderr("");
}

#[test]
fn a_process_may_hold_no_more_handles() {
    for options in [&["--max-handles", "8"][..], &[]] {
        let folder = temporary_folder();
        granting(Atoll::run(guest(OPENS_ALL)), folder.path())
            .options(options.iter().copied())
            .after("ulimit -n 1024")
            .outcome()
            .code(0)
            .stdout(TOO_MANY)
            .stderr("");
    }
}

#[test]
fn few_descriptors() {
    for count in [3, 5, 8, 16, 24] {
        let outcome = Atoll::run(guest(SEVEN))
            .after(format!("ulimit -n {count}"))
            .outcome();
        // With three descriptors the operating system can't load the program's libraries, and the program can't report that.
        if count == 3 && outcome.code == Some(127) {
            continue;
        }
        check_runs_or_says_why(outcome);
    }
}

#[test]
fn few_threads() {
    for count in 1..=12 {
        // Each shell has a limit of its own. The superuser has none.
        let outcome = Atoll::run(guest(SEVEN))
            .after(format!(
                "{{ ulimit -u {count} || ulimit -p {count}; }} 2>/dev/null"
            ))
            .outcome();
        check_runs_or_says_why(outcome);
    }
}

#[test]
fn threads_whose_stacks_find_no_room() {
    // This limit also holds for the superuser: the larger each stack is, the fewer threads there can be, down to none.
    for threads in 1..=16 {
        let outcome = Atoll::run(guest(SEVEN))
            .env("RUST_MIN_STACK", (40_000_000_000u64 / threads).to_string())
            .after("ulimit -v 67108864")
            .outcome();
        check_runs_or_says_why(outcome);
    }
}

#[test]
fn little_address_space() {
    for gibibytes in 1..=8 {
        let outcome = Atoll::run(guest(SEVEN))
            .after(format!("ulimit -v {}", gibibytes << 20))
            .outcome();
        if outcome.code == Some(1) {
            // The error names the size that was requested, with its unit.
            let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
            let says_how_much = outcome.stderr.starts_with("error: ")
                && outcome.stderr.bytes().any(|byte| byte.is_ascii_digit())
                && units.iter().any(|unit| outcome.stderr.contains(unit));
            assert!(says_how_much, "{gibibytes} GiB\n{outcome}");
        }
        assert!(
            gibibytes < 8 || outcome.code == Some(7),
            "8 GiB are not enough\n{outcome}"
        );
        check_runs_or_says_why(outcome);
    }
}

/// Spawns four hundred processes, and sends each a message of 60 KB, which they keep. Exits with 7 at the end,
/// and with 8 if a spawn fails.
const LOADS_SPAWNS_SENDS: &str = "
    (func (export \"child\")
      (call $parent (i32.const 208))
      (call $post (i32.const 208) (i32.const 1))
      (call $take (i32.const 3)))
    (func (export \"run\")
      (local $count i32)
      (loop $again
        (if (i32.ne (call $try-start %\"child\" (i32.const 112)) (i32.const -1))
          (then (call $proc_exit (i32.const 8))))
        (call $post-bytes (i32.const 112) (i32.const 2) (i32.const 1024) (i32.const 60000))
        (call $take (i32.const 1))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $count) (i32.const 400))))
      (call $proc_exit (i32.const 7)))";

#[test]
fn each_allocation_may_fail() {
    // Each step fails at some of these limits: the program's start, loading, threads, a spawn, a message. The host's own heap
    // can't be refused memory in order: then the program aborts, and says why.
    let (mut runs, mut refused, mut aborts, mut says_why) = (0, 0, 0, 0);
    for option in ["-v", "-d"] {
        for mib in (96..400).step_by(8).chain([8192]) {
            let outcome = Atoll::run(guest(LOADS_SPAWNS_SENDS))
                .options(["--schedulers", "2"])
                .after(format!("ulimit {option} {}", mib << 10))
                .outcome();
            let is_abort =
                outcome.is_stopped_by(rustix::process::Signal::ABORT) && !outcome.stderr.is_empty();
            match outcome.code {
                Some(7) => runs += 1,
                Some(8) => refused += 1,
                _ if is_abort => aborts += 1,
                _ => {
                    says_why += 1;
                    check_runs_or_says_why(outcome);
                }
            }
        }
    }
    println!(
        "{runs} ran, {refused} could not spawn, {aborts} aborted, {says_why} said why they did not start"
    );
    assert!(
        runs > 0 && refused > 0 && says_why > 0,
        "the limits are not around the need"
    );
}

#[test]
fn a_growth_for_which_there_is_no_room_is_not_counted() {
    // There is address space for one growth, and not for the other.
    let body = "(func (export \"run\")
          (call $print-number (i32.eq (memory.grow (i32.const 49152)) (i32.const -1)))
          (call $print-number (i32.ne (memory.grow (i32.const 1024)) (i32.const -1))))";
    Atoll::run(guest(body))
        .options(["--max-memory", "3100MiB", "--max-total-memory", "64GiB"])
        .after("ulimit -v 4194304")
        .outcome()
        .code(0)
        .stdout("1\n1\n");
}

#[test]
fn no_memory_for_all_processes_together() {
    let text = "(module (memory 65) (func (export \"run\")))";
    Atoll::run(text)
        .options(["--max-total-memory", "0"])
        .outcome()
        .code(1)
        .stderr_has("(`--max-total-memory`)");
    // The host does not count small processes.
    Atoll::run("(module (memory 16) (func (export \"run\")))")
        .options(["--max-total-memory", "0"])
        .outcome()
        .code(0);
}
