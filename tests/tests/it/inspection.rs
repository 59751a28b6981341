//! Inspection and suspension: the grants, the information, and the behaviour of a suspended process.

use crate::offenders::check_traps;
use crate::wrap::{Component, PROCESS_WORLD};
use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES, TOOLS};

/// Information about a process, at 2400: is there any, status at 2408, priority, trap-exit, hibernates; reductions at 2416,
/// memory, events, bytes, timers, age at 2456; parent at 2464, name at 2488, label at 2500; program at 2512, function,
/// current function at 2528; links at 2536, monitors, monitored-by at 2552. The counters are at 2800.
const LOOKING: &str = "
  (func $look (param $slot i32) (result i32)
    (global.set $heap (i32.const 32768))
    (call $info (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (i32.const 2400))
    (i32.load8_u (i32.const 2400)))
  (func $status (param $slot i32) (result i32)
    (call $must (call $look (local.get $slot)))
    (i32.load8_u (i32.const 2408)))
  ;; Waits until a process has this status.
  (func $await-status (param $slot i32) (param $status i32)
    (loop $again
      (if (i32.ne (call $status (local.get $slot)) (local.get $status))
        (then (call $yield-now) (br $again)))))
  (func $print-at (param $list i32)
    (call $print (i32.load (local.get $list)) (i32.load offset=4 (local.get $list))))
  (func $suspends (param $slot i32) (result i32)
    (call $suspend (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))
  (func $resumes (param $slot i32) (result i32)
    (call $resume (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))
  (func (export \"spins\") (loop $for-ever (br $for-ever)))";

const GRANTS: [&str; 2] = ["--allow-inspect", "--allow-debug"];

fn looking_guest(imports: &str, body: &str) -> String {
    Guest {
        imports: &format!("{TIES} {TOOLS} {imports}"),
        body: &format!("{TIE_FUNCTIONS} {LOOKING} {body}"),
        ..Guest::default()
    }
    .text()
}

#[track_caller]
fn prints(body: &str, stdout: &str) {
    for schedulers in ["1", "2"] {
        Atoll::run(looking_guest("", body))
            .options(GRANTS)
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout(stdout)
            .stderr("");
    }
}

#[track_caller]
fn main_prints(run: &str, stdout: &str) {
    prints(
        &format!(
            "(func (export \"run\") (local $count i32) (local $before i64) (call $self (i32.const 16)) {run})"
        ),
        stdout,
    );
}

/// One import of each.
const INSPECTS: &str =
    "(import \"atoll-rt:process/inspection@0.2.0\" \"counters\" (func $counters (param i32)))";
const DEBUGS: &str = "(import \"atoll-rt:process/debugging@0.2.0\" \"resume\" (func $resume (param i64 i64) (result i32)))";

#[test]
fn a_program_without_a_grant_is_not_loaded() {
    let uses = |imports: &str| {
        let mut body = String::new();
        if imports.contains("counters") {
            body += "(call $counters (i32.const 2800))";
        }
        if imports.contains("resume") {
            body += "(drop (call $resume (i64.const 0) (i64.const 0)))";
        }
        Guest {
            wasi: false,
            imports,
            body: &format!("(func (export \"run\") {body})"),
            ..Guest::default()
        }
        .text()
    };
    let both = format!("{INSPECTS} {DEBUGS}");
    for (imports, needs) in [
        (INSPECTS, &["inspection"][..]),
        (DEBUGS, &["debugging"][..]),
        (&both, &["inspection", "debugging"][..]),
    ] {
        let module = uses(imports);
        let component = Component {
            world: PROCESS_WORLD,
            module: &module,
        }
        .bytes();
        for guest in [module.as_bytes(), &component] {
            for granted in [&[][..], &GRANTS[..1], &GRANTS[1..], &GRANTS[..]] {
                let outcome = Atoll::run(guest).options(granted).outcome();
                let is_granted = |need: &str| match need {
                    "inspection" => granted.contains(&"--allow-inspect"),
                    _ => granted.contains(&"--allow-debug"),
                };
                match needs.iter().find(|need| !is_granted(need)) {
                    None => {
                        outcome.code(0).stderr("");
                    }
                    Some(_) => {
                        outcome
                            .code(1)
                            .stdout("")
                            .stderr_has(
                                "can't be loaded: the module imports something that is not granted: ",
                            )
                            .stderr_has("\n  hint: ")
                            .stderr_has("`--allow-inspect`")
                            .stderr_has("`--allow-debug`");
                    }
                }
            }
        }
    }
}

#[test]
fn all_information_about_a_process() {
    let body = "(func (export \"child\")
          (call $trap-exits)
          (call $parent (i32.const 256))
          (call $start-timer (i64.const -1) (i32.const 0)
            (i64.load (i32.const 256)) (i64.load (i32.const 264)) (i32.const 3) (i32.const 192))
          (call $watch (i32.const 256) (i32.const 192))
          (call $watch-name %\"other\" (i32.const 192))
          (call $post (i32.const 256) (i32.const 7))
          (call $hibernate)
          (call $take (i32.const 9)))
        (func (export \"run\")
          (call $self (i32.const 16))
          (call $start %\"stays\" (i32.const 288))
          (call $must (i32.eq (i32.const -1) (call $name %\"other\" (i32.const 288))))
          (i32.store8 (i32.const 2208) (i32.const 6))
          (memory.copy (i32.const 2304) %\"a label\")
          (i32.store (i32.const 2216) (i32.const 2304)) (i32.store (i32.const 2220) (i32.const 7))
          (i32.store8 (i32.const 2232) (i32.const 3)) (i32.store8 (i32.const 2240) (i32.const 2))
          (i32.store8 (i32.const 2256) (i32.const 0))
          (i32.store8 (i32.const 2280) (i32.const 2))
          (memory.copy (i32.const 2320) %\"a name\")
          (i32.store (i32.const 2288) (i32.const 2320)) (i32.store (i32.const 2292) (i32.const 6))
          (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"child\" (i32.const 16) (i32.const 16)
            (i32.const 2208) (i32.const 4) (i32.const 64))
          (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 272))))
          (call $watch (i32.const 272) (i32.const 192))
          (call $take (i32.const 7))
          (call $await-status (i32.const 272) (i32.const 2))
          (call $post-bytes (i32.const 272) (i32.const 8) (i32.const 0) (i32.const 1000))
          (call $post (i32.const 272) (i32.const 8))
          (call $await-status (i32.const 272) (i32.const 2))
          (call $print-number (i32.load8_u (i32.const 2409)))
          (call $print-number (i32.load8_u (i32.const 2410)))
          (call $must (i64.gt_u (i64.load (i32.const 2416)) (i64.const 0)))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2424))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2432))))
          (call $must (i64.ge_u (i64.load (i32.const 2440)) (i64.const 1000)))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2448))))
          (call $must (i64.gt_u (i64.load (i32.const 2456)) (i64.const 0)))
          (call $must (i64.lt_u (i64.load (i32.const 2456)) (i64.const 1000000000000)))
          (call $print-number (i32.load8_u (i32.const 2464)))
          (call $must (call $same (i32.const 2472) (i32.const 16)))
          (call $print-number (i32.load8_u (i32.const 2488))) (call $print-at (i32.const 2492))
          (call $print-number (i32.load8_u (i32.const 2500))) (call $print-at (i32.const 2504))
          (call $print-at (i32.const 2512))
          (call $print-at (i32.const 2520))
          ;; Links.
          (call $print-number (i32.load (i32.const 2540)))
          (call $must (call $same (i32.load (i32.const 2536)) (i32.const 16)))
          ;; Two monitors in no particular order, one of a pid and one of a name. Elements of 24 bytes.
          (call $print-number (i32.load (i32.const 2548)))
          (if (i32.load8_u (i32.load (i32.const 2544)))
            (then (call $check (i32.add (i32.load (i32.const 2544)) (i32.const 24)) (i32.load (i32.const 2544))))
            (else (call $check (i32.load (i32.const 2544)) (i32.add (i32.load (i32.const 2544)) (i32.const 24)))))
          ;; The processes that monitor it.
          (call $print-number (i32.load (i32.const 2556)))
          (call $must (call $same (i32.load (i32.const 2552)) (i32.const 16)))
          (call $unlink-from (i32.const 272))
          (call $end (i32.const 272)))
        (func $check (param $pid i32) (param $name i32)
          (call $must (i32.eqz (i32.load8_u (local.get $pid))))
          (call $must (call $same (i32.add (local.get $pid) (i32.const 8)) (i32.const 16)))
          (call $must (i32.load8_u (local.get $name)))
          (call $print-at (i32.add (local.get $name) (i32.const 8))))";
    prints(
        body,
        "2\n1\n131072\n2\n1\n1\n1\na name\n1\na label\nmain\nchild\n1\n2\nother\n1\n",
    );
}

#[test]
fn information_about_main_and_about_dead_processes() {
    main_prints(
        "(call $print-number (call $status (i32.const 16)))
         (call $print-number (i32.load8_u (i32.const 2409)))
         (call $print-number (i32.load8_u (i32.const 2410)))
         (call $print-number (i32.load8_u (i32.const 2411)))
         (call $print-number (i32.load8_u (i32.const 2464)))
         (call $print-number (i32.load8_u (i32.const 2488)))
         (call $print-number (i32.load8_u (i32.const 2500)))
         (call $print-at (i32.const 2512))
         (call $print-at (i32.const 2520))
         (call $print-number (i32.load (i32.const 2540)))
         (call $print-number (i32.load (i32.const 2548)))
         (call $print-number (i32.load (i32.const 2556)))
         (call $hibernate)
         (call $must (call $look (i32.const 16)))
         (call $print-number (i32.load8_u (i32.const 2411)))
         ;; The advice holds for one wait.
         (call $pass (i64.const 1))
         (call $must (call $look (i32.const 16)))
         (call $print-number (i32.load8_u (i32.const 2411)))
         ;; Information about a process that has ended, and about one that never existed.
         (call $start %\"stays\" (i32.const 272))
         (call $end (i32.const 272))
         (call $print-number (call $look (i32.const 272)))
         (i64.store (i32.const 272) (i64.const -1))
         (call $print-number (call $look (i32.const 272)))",
        "0\n1\n0\n0\n0\n0\n0\nmain\nrun\n0\n0\n0\n1\n0\n0\n0\n",
    );
}

#[test]
fn every_status() {
    // Running (0), runnable (1), waiting (2), waiting for the host (3), suspended (4). On one scheduler, an inspected process
    // does not run.
    let guest = looking_guest(
        "(import \"wasi_snapshot_preview1\" \"poll_oneoff\" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))",
        "(func (export \"sleeps\")
           ;; An hour, by the monotonic clock.
           (i32.store (i32.const 2320) (i32.const 1))
           (i64.store (i32.const 2328) (i64.const 3600000000000))
           (drop (call $poll_oneoff (i32.const 2304) (i32.const 2368) (i32.const 1) (i32.const 2396))))
         (func (export \"run\")
           (call $self (i32.const 16))
           (call $print-number (call $status (i32.const 16)))
           (call $start %\"spins\" (i32.const 272))
           (call $await-status (i32.const 272) (i32.const 1))
           (call $yield-now)
           (call $print-number (call $status (i32.const 272)))
           (call $must (call $suspends (i32.const 272)))
           (call $print-number (call $status (i32.const 272)))
           (call $start %\"stays\" (i32.const 288))
           (call $await-status (i32.const 288) (i32.const 2))
           (call $start %\"sleeps\" (i32.const 304))
           (call $await-status (i32.const 304) (i32.const 3))
           ;; A waiting process can be suspended as well.
           (call $must (call $suspends (i32.const 288)))
           (call $print-number (call $status (i32.const 288)))
           (call $must (call $suspends (i32.const 304)))
           (call $print-number (call $status (i32.const 304))))",
    );
    Atoll::run(guest)
        .options(GRANTS)
        .options(["--schedulers", "1"])
        .outcome()
        .code(0)
        .stdout("0\n1\n4\n4\n4\n")
        .stderr("");
}

#[test]
fn all_processes_and_counters() {
    let body = "(func (export \"crashes\") unreachable)
        (func $is-listed (param $slot i32) (result i32)
          (local $at i32) (local $count i32)
          (global.set $heap (i32.const 32768))
          (call $processes (i32.const 2096))
          (local.set $at (i32.load (i32.const 2096)))
          (local.set $count (i32.load (i32.const 2100)))
          (loop $next
            (if (local.get $count)
              (then
                (if (call $same (local.get $at) (local.get $slot)) (then (return (i32.const 1))))
                (local.set $at (i32.add (local.get $at) (i32.const 16)))
                (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                (br $next))))
          (i32.const 0))
        (func $print-counters
          (call $counters (i32.const 2800))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2800))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2808))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2816))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2832))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2840))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 2848)))))
        (func (export \"run\")
          (call $self (i32.const 16))
          (call $print-counters)
          (call $must (call $is-listed (i32.const 16)))
          (call $print-number (i32.load (i32.const 2100)))
          (call $start %\"stays\" (i32.const 272))
          (call $start %\"stays\" (i32.const 288))
          (call $start %\"crashes\" (i32.const 304))
          (call $watch (i32.const 304) (i32.const 192))
          (drop (call $take-down-of (i32.const 192)))
          (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 272))))
          (call $must (i32.eq (i32.const -1) (call $enter %\"one\" (i32.const 272))))
          (call $must (i32.eq (i32.const -1) (call $enter %\"two\" (i32.const 272))))
          (call $start-timer (i64.const -1) (i32.const 0)
            (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 3) (i32.const 192))
          (call $print-counters)
          (call $must (call $is-listed (i32.const 272)))
          (call $must (call $is-listed (i32.const 288)))
          (call $must (i32.eqz (call $is-listed (i32.const 304))))
          (call $end (i32.const 272))
          (call $cancel-timer (i64.load (i32.const 192)) (i64.load (i32.const 200)) (i32.const 2080))
          (call $print-counters)
          (call $must (i32.eqz (call $is-listed (i32.const 272)))))";
    let outcome = Atoll::run(looking_guest("", body))
        .options(GRANTS)
        .outcome()
        .code(0)
        .stdout("1\n1\n0\n0\n0\n0\n1\n3\n4\n1\n1\n2\n1\n2\n4\n1\n0\n0\n0\n");
    assert_eq!(outcome.crashes().len(), 1, "{outcome}");
}

#[test]
fn a_suspended_process_does_nothing_until_it_is_resumed() {
    // Messages to it wait in its mailbox. It was suspended twice, and must be resumed twice.
    main_prints(
        "(call $start %\"neighbour\" (i32.const 272))
         (call $must (i32.eq (call $ask (i32.const 272)) (i32.const 1)))
         (call $print-number (call $suspends (i32.const 272)))
         (call $print-number (call $suspends (i32.const 272)))
         (call $post (i32.const 272) (i32.const 1))
         (call $pass (i64.const 10))
         (call $must (call $is-empty))
         (call $print-number (call $status (i32.const 272)))
         (call $print-number (i32.wrap_i64 (i64.load (i32.const 2432))))
         (call $print-number (call $resumes (i32.const 272)))
         (call $pass (i64.const 10))
         (call $must (call $is-empty))
         (call $print-number (call $status (i32.const 272)))
         (call $print-number (call $resumes (i32.const 272)))
         (call $take (i32.const 2))
         (call $print-number (i32.load (i32.load (i32.const 164))))
         (call $print-number (call $resumes (i32.const 272)))
         (call $print-number (call $ask (i32.const 272)))",
        "1\n1\n4\n1\n1\n4\n1\n2\n0\n3\n",
    );
}

#[test]
fn a_busy_process_makes_no_progress_while_it_is_suspended() {
    main_prints(
        "(call $start %\"spins\" (i32.const 272))
         (loop $again
           (call $must (call $suspends (i32.const 272)))
           (call $must (i32.eq (call $status (i32.const 272)) (i32.const 4)))
           (local.set $before (i64.load (i32.const 2416)))
           (call $pass (i64.const 1))
           (call $must (call $look (i32.const 272)))
           (call $must (i64.eq (local.get $before) (i64.load (i32.const 2416))))
           (call $must (call $resumes (i32.const 272)))
           (loop $until
             (call $yield-now)
             (call $must (call $look (i32.const 272)))
             (br_if $until (i64.eq (local.get $before) (i64.load (i32.const 2416)))))
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 20))))
         (call $print %\"done\")",
        "done\n",
    );
}

#[test]
fn the_end_of_a_suspender() {
    let body = "(func (export \"suspender\")
          (call $argument (i32.const 176))
          (call $copy-id (i32.load (i32.const 176)) (i32.const 272))
          (call $copy-id (i32.add (i32.load (i32.const 176)) (i32.const 16)) (i32.const 256))
          (call $must (call $suspends (i32.const 272)))
          (call $must (call $suspends (i32.const 272)))
          (call $post (i32.const 256) (i32.const 7))
          (call $stays))
        (func (export \"run\")
          (call $start %\"neighbour\" (i32.const 272))
          (call $copy-id (i32.const 272) (i32.const 2304))
          (call $copy-id (i32.const 16) (i32.const 2320))
          (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"suspender\" (i32.const 2304) (i32.const 32)
            (i32.const 0) (i32.const 0) (i32.const 64))
          (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 288))))
          (call $take (i32.const 7))
          (call $print-number (call $status (i32.const 272)))
          ;; A process can't undo the suspension of another one, but it can add its own.
          (call $print-number (call $resumes (i32.const 272)))
          (call $print-number (call $suspends (i32.const 272)))
          (call $end (i32.const 288))
          (call $print-number (call $status (i32.const 272)))
          (call $print-number (call $resumes (i32.const 272)))
          (call $print-number (call $ask (i32.const 272))))";
    prints(body, "4\n0\n1\n4\n1\n1\n");
}

#[test]
fn a_suspended_process_can_be_ended() {
    main_prints(
        "(call $start %\"spins\" (i32.const 272))
         (call $watch (i32.const 272) (i32.const 192))
         (call $must (call $suspends (i32.const 272)))
         (call $signal (i32.const 272) (i32.const 3))
         (call $print-number (call $take-down-of (i32.const 192)))
         (call $print-number (call $resumes (i32.const 272)))
         (call $start %\"stays\" (i32.const 272))
         (call $watch (i32.const 272) (i32.const 192))
         (call $must (call $suspends (i32.const 272)))
         (call $signal (i32.const 272) (i32.const 3))
         (call $print-number (call $take-down-of (i32.const 192)))
         ;; Main ends while a process is still suspended.
         (call $start %\"stays\" (i32.const 272))
         (call $must (call $suspends (i32.const 272)))",
        "4\n0\n4\n",
    );
}

#[test]
fn processes_that_can_not_be_suspended() {
    main_prints(
        "(call $print-number (call $suspends (i32.const 16)))
         (call $start %\"stays\" (i32.const 272))
         (call $print-number (call $resumes (i32.const 272)))
         (call $end (i32.const 272))
         (call $print-number (call $suspends (i32.const 272)))
         (i64.store (i32.const 272) (i64.const -1))
         (call $print-number (call $suspends (i32.const 272)))
         (call $print-number (call $resumes (i32.const 272)))",
        "0\n0\n0\n0\n0\n",
    );
}

#[test]
fn two_processes_that_suspend_each_other() {
    // One of them is faster, or neither returns from the call. Both can be ended.
    let body = "(func (export \"suspender\")
          (call $parent (i32.const 256))
          (call $take (i32.const 3))
          (call $copy-id (i32.load (i32.const 164)) (i32.const 272))
          (loop $again
            (call $must (call $suspends (i32.const 272)))
            (call $must (call $resumes (i32.const 272)))
            (br $again)))
        (func (export \"run\")
          (local $count i32)
          (loop $again
            (call $start %\"suspender\" (i32.const 272))
            (call $start %\"suspender\" (i32.const 288))
            (call $post-bytes (i32.const 272) (i32.const 3) (i32.const 288) (i32.const 16))
            (call $post-bytes (i32.const 288) (i32.const 3) (i32.const 272) (i32.const 16))
            (call $watch (i32.const 272) (i32.const 192))
            (call $pass (i64.const 1))
            (call $end (i32.const 272))
            (call $end (i32.const 288))
            (call $print-number (call $take-down-of (i32.const 192)))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 50)))))";
    let guest = looking_guest("", body);
    for schedulers in ["1", "2", "3"] {
        Atoll::run(&guest)
            .options(GRANTS)
            .options(["--schedulers", schedulers, "--quiet"])
            .outcome()
            .code(0)
            .stdout(&"4\n".repeat(50));
    }
}

#[test]
fn addresses_that_are_not_there() {
    let outside = "lies outside of the memory (0x20000 bytes)";
    let own = "(i64.load (i32.const 16)) (i64.load (i32.const 24))";
    let cases = [
        (
            format!("(call $info {own} (i32.const 2404))"),
            "info: the result's address 0x964 is not aligned".to_owned(),
        ),
        (
            format!("(call $info {own} (i32.const 0x1ff68))"),
            format!("info (address 0x1ff68, 304 bytes) {outside}"),
        ),
        (
            "(call $processes (i32.const 2098))".into(),
            "processes: the result's address 0x832 is not aligned".into(),
        ),
        (
            "(call $processes (i32.const -8))".into(),
            format!("processes (address 0xfffffff8, 8 bytes) {outside}"),
        ),
        (
            "(call $counters (i32.const 2604))".into(),
            "counters: the result's address 0xa2c is not aligned".into(),
        ),
        (
            "(call $counters (i32.const 0x1ffd0))".into(),
            format!("counters (address 0x1ffd0, 56 bytes) {outside}"),
        ),
    ];
    let cases = cases.map(|(body, text)| (format!("(call $self (i32.const 16)) {body}"), text));
    let pieces = Guest {
        imports: TOOLS,
        ..Guest::default()
    };
    check_traps(&pieces, &GRANTS, &cases);
}
