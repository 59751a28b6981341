//! Exit signals and links, and the errors for bad arguments to them and to monitors.

use crate::offenders::{Offender, check_traps, check_with};
use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES, tied_guest};

/// A main with this body prints this and ends well. Crash reports are off.
#[track_caller]
pub fn prints(body: &str, stdout: &str) {
    for schedulers in ["1", "2"] {
        Atoll::run(tied_guest(body))
            .options(["--schedulers", schedulers, "--quiet"])
            .outcome()
            .code(0)
            .stdout(stdout)
            .stderr("");
    }
}

/// The same for the body of main.
#[track_caller]
pub fn main_prints(run: &str, stdout: &str) {
    prints(&format!("(func (export \"run\") {run})"), stdout);
}

/// Main sends this to a process, as each case of `exit-reason`.
fn for_each_reason(then: &str) -> String {
    format!(
        "(local $case i32)
         (loop $next
           (call $exit-process (i64.load (i32.const 272)) (i64.load (i32.const 280)) (local.get $case)
             (select (i32.const 3) (i32.const 0x10000) (i32.eq (local.get $case) (i32.const 8)))
             (i32.const 3))
           {then}
           (br_if $next (i32.lt_u
             (local.tee $case (i32.add (local.get $case) (i32.const 1))) (i32.const 11))))"
    )
}

#[test]
fn exit_signals_to_a_process_that_does_not_trap_them() {
    // `normal` has no effect, `kill` becomes `killed`, and every other reason arrives as it is.
    let run = for_each_reason(
        "(if (i32.eqz (local.get $case))
           (then (call $must (call $lives (i32.const 272))))
           (else
             (call $print-number (call $take-down-of (i32.const 192)))
             (call $must (i32.eqz (call $lives (i32.const 272))))
             (call $start %\"stays\" (i32.const 272))
             (call $watch (i32.const 272) (i32.const 192))))",
    );
    let run = run.replacen(
        "(loop $next",
        "(call $start %\"stays\" (i32.const 272)) (call $watch (i32.const 272) (i32.const 192)) (loop $next",
        1,
    );
    main_prints(&run, "1\n2\n4\n4\n5\n6\n7\n8\n9\n10\n");
}

#[test]
fn exit_signals_to_a_process_that_traps_them() {
    // The process reports each: its case, and its text, which is "abc" at 0x10000. `kill` can't be trapped.
    let run = for_each_reason(
        "(if (i32.ne (local.get $case) (i32.const 3))
           (then
             (call $take (i32.const 9))
             (call $must (i32.eq (i32.load (i32.load (i32.const 164))) (local.get $case)))
             (call $print (i32.add (i32.load (i32.const 164)) (i32.const 4))
               (i32.sub (i32.load (i32.const 168)) (i32.const 4))))
           (else
             (call $print-number (call $take-down-of (i32.const 192)))
             (call $start-trapping)))",
    );
    let run = run.replacen(
        "(loop $next",
        "(i32.store (i32.const 0x10000) (i32.const 0x00636261)) (call $start-trapping) (loop $next",
        1,
    );
    let body = format!(
        "(func (export \"tells\")
           (local $bytes i32)
           (call $trap-exits)
           (call $parent (i32.const 256))
           (call $post (i32.const 256) (i32.const 7))
           (loop $next
             (i32.store (i32.const 2304) (call $take-exit))
             (call $must (call $same (i32.const 112) (i32.const 256)))
             (local.set $bytes (i32.const 0))
             (if (i32.or (i32.eq (i32.load (i32.const 2304)) (i32.const 2))
                   (i32.or (i32.eq (i32.load (i32.const 2304)) (i32.const 7))
                     (i32.eq (i32.load (i32.const 2304)) (i32.const 10))))
               (then
                 (local.set $bytes (i32.load (i32.const 136)))
                 (memory.copy (i32.const 2308) (i32.load (i32.const 132)) (local.get $bytes))))
             (if (i32.eq (i32.load (i32.const 2304)) (i32.const 8))
               (then (call $must (i32.eq (i32.load8_u (i32.const 132)) (i32.const 3)))))
             (if (i32.eq (i32.load (i32.const 2304)) (i32.const 9))
               (then (call $must (i32.eq (i32.load (i32.const 132)) (i32.const 0x10000)))))
             (call $post-bytes (i32.const 256) (i32.const 9) (i32.const 2304)
               (i32.add (i32.const 4) (local.get $bytes)))
             (br $next)))
         (func $start-trapping
           (call $start %\"tells\" (i32.const 272))
           (call $take (i32.const 7))
           (call $watch (i32.const 272) (i32.const 192)))
         (func (export \"run\") {run} (call $end (i32.const 272)))"
    );
    prints(&body, "\n\nabc\n4\n\n\n\nabc\n\n\nabc\n");
}

#[test]
fn trap_exit_returns_its_old_value() {
    main_prints(
        "(call $print-number (call $trap-exit (i32.const 0)))
         (call $print-number (call $trap-exit (i32.const 1)))
         (call $print-number (call $trap-exit (i32.const 1)))
         (call $print-number (call $trap-exit (i32.const 0)))
         (call $print-number (call $trap-exit (i32.const 0)))",
        "0\n0\n1\n1\n0\n",
    );
}

#[test]
fn exit_signals_to_oneself() {
    // Case, exit code, and output. Not even `normal` is ignored.
    for (case, code, stderr) in [
        (0, 0, ""),
        (1, 0, ""),
        (3, 137, "atoll: main ended: killed\n"),
        (5, 1, "atoll: main ended: noproc\n"),
    ] {
        for (trap, code, stdout, stderr) in [
            ("", code, "", stderr),
            (
                "(call $trap-exits)",
                if case == 3 { 137 } else { 0 },
                if case == 3 { "" } else { "goes on\n" },
                if case == 3 { stderr } else { "" },
            ),
        ] {
            let guest = tied_guest(&format!(
                "(func (export \"run\")
                   {trap}
                   (call $self (i32.const 16))
                   (call $signal (i32.const 16) (i32.const {case}))
                   (call $must (i32.eq (call $take-exit) (i32.const {case})))
                   (call $must (call $same (i32.const 112) (i32.const 16)))
                   (call $print %\"goes on\"))"
            ));
            Atoll::run(guest)
                .outcome()
                .code(code)
                .stdout(stdout)
                .stderr(stderr);
        }
    }
}

#[test]
fn a_link_works_both_ways() {
    // A child links itself to main, and main links itself to a child. In both cases the end of one is an event for the other,
    // or ends it.
    let body = "(func (export \"links\")
          (call $parent (i32.const 256))
          (call $link-to (i32.const 256))
          (call $post (i32.const 256) (i32.const 7))
          (call $stays))
        (func (export \"middle\")
          (call $parent (i32.const 256))
          (call $start %\"links\" (i32.const 272))
          (call $take (i32.const 7))
          (call $post-bytes (i32.const 256) (i32.const 7) (i32.const 272) (i32.const 16))
          (drop (call $take-any))
          (call $exit (i32.const 10) %\"middle\"))
        (func (export \"run\")
          (call $trap-exits)
          ;; The child ends.
          (call $start %\"links\" (i32.const 272))
          (call $take (i32.const 7))
          (call $signal-bytes (i32.const 272) %\"first\")
          (call $print-number (call $take-exit))
          (call $print (i32.load (i32.const 132)) (i32.load (i32.const 136)))
          (call $must (call $same (i32.const 112) (i32.const 272)))
          ;; The parent ends, and the child with it.
          (call $start %\"middle\" (i32.const 272))
          (call $take (i32.const 7))
          (call $copy-id (i32.load (i32.const 164)) (i32.const 288))
          (call $watch (i32.const 288) (i32.const 192))
          (call $post (i32.const 272) (i32.const 1))
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $print (i32.load (i32.const 156)) (i32.load (i32.const 160)))
          ;; The child ends, and the parent with it.
          (call $start %\"middle\" (i32.const 272))
          (call $take (i32.const 7))
          (call $copy-id (i32.load (i32.const 164)) (i32.const 288))
          (call $watch (i32.const 272) (i32.const 192))
          (call $signal-bytes (i32.const 288) %\"last\")
          (call $print-number (call $take-down-of (i32.const 192)))
          (call $print (i32.load (i32.const 156)) (i32.load (i32.const 160)))
          (call $must (call $is-empty)))";
    prints(body, "10\nfirst\n10\nmiddle\n10\nlast\n");
}

#[test]
fn links_to_the_living() {
    main_prints(
        "(call $trap-exits)
         ;; A second link is the same link, and one unlink removes it.
         (call $start %\"stays\" (i32.const 272))
         (call $link-to (i32.const 272)) (call $link-to (i32.const 272))
         (call $signal (i32.const 272) (i32.const 1))
         (call $print-number (call $take-exit))
         (call $must (call $is-empty))
         (call $start %\"stays\" (i32.const 272))
         (call $link-to (i32.const 272)) (call $link-to (i32.const 272)) (call $unlink-from (i32.const 272))
         (call $end (i32.const 272))
         (call $must (call $is-empty))
         ;; An unlink without a link has no effect.
         (call $unlink-from (i32.const 272))
         (call $start %\"stays\" (i32.const 272))
         (call $unlink-from (i32.const 272))
         (call $link-to (i32.const 272)) (call $unlink-from (i32.const 272)) (call $link-to (i32.const 272))
         (call $end (i32.const 272))
         (call $print-number (call $take-exit))
         ;; A signal that has arrived stays.
         (call $start %\"stays\" (i32.const 272))
         (call $link-to (i32.const 272))
         (call $end (i32.const 272))
         (call $unlink-from (i32.const 272))
         (call $print-number (call $take-exit))
         ;; A link to oneself has no effect.
         (call $self (i32.const 16))
         (call $link-to (i32.const 16)) (call $unlink-from (i32.const 16)) (call $link-to (i32.const 16))
         (call $must (call $is-empty))",
        "1\n4\n4\n",
    );
}

#[test]
fn links_to_the_dead() {
    // Dead, never there, on another node, and beyond every bound.
    let run = |trap: &str| {
        format!(
            "(func (export \"run\")
               {trap}
               (call $start %\"stays\" (i32.const 272))
               (call $end (i32.const 272))
               (call $link-to (i32.const 272))
               (call $print-number (call $take-exit))
               (call $must (call $same (i32.const 112) (i32.const 272)))
               (i64.store (i32.const 280) (i64.add (i64.load (i32.const 280)) (i64.const 1)))
               (call $link-to (i32.const 272))
               (call $print-number (call $take-exit))
               (i64.store (i32.const 280) (i64.const -1))
               (call $link-to (i32.const 272))
               (call $print-number (call $take-exit))
               (call $must (call $is-empty))
               (call $unlink-from (i32.const 272)))"
        )
    };
    prints(&run("(call $trap-exits)"), "5\n5\n5\n");
    Atoll::run(tied_guest(&run("")))
        .outcome()
        .code(1)
        .stdout("")
        .stderr("atoll: main ended: noproc\n");
}

#[test]
fn a_normal_end_does_not_end_linked_processes() {
    let body =
        "(func (export \"ends\") (call $parent (i32.const 256)) (call $link-to (i32.const 256)))
        (func (export \"run\")
          (call $start %\"ends\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (drop (call $take-down-of (i32.const 192)))
          (call $must (call $is-empty))
          (call $trap-exits)
          (call $start %\"ends\" (i32.const 272))
          (call $print-number (call $take-exit))
          ;; `kill` over a link is a reason like any other.
          (call $start %\"kills\" (i32.const 272))
          (call $print-number (call $take-exit)))
        (func (export \"kills\")
          (call $parent (i32.const 256))
          (call $link-to (i32.const 256))
          (call $exit (i32.const 3) (i32.const 0) (i32.const 0)))";
    prints(body, "0\n3\n");
}

/// A chain of linked processes, each of which spawns the next. The last one is linked to the first if `cycle` is 1. Main
/// counts the members of a group that have come and gone, then signals the given process.
fn chain(length: u32, cycle: u32, which: &str) -> String {
    // The argument, at 2208: how many processes follow, is it a cycle, main's pid at 8, the pid of the first one at 24.
    format!(
        "(func $next
           (i32.store8 (i32.const 2304) (i32.const 0))
           (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"chain\" (i32.const 2208) (i32.const 40)
             (i32.const 2304) (i32.const 1) (i32.const 64))
           (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 272)))))
         (func (export \"chain\")
           (call $self (i32.const 16))
           (call $argument (i32.const 176))
           (memory.copy (i32.const 2208) (i32.load (i32.const 176)) (i32.const 40))
           (if (i64.eqz (i64.load (i32.const 2240))) (then (call $copy-id (i32.const 16) (i32.const 2232))))
           (call $must (i32.eq (i32.const -1) (call $enter %\"chain\" (i32.const 16))))
           (i32.store (i32.const 2208) (i32.sub (i32.load (i32.const 2208)) (i32.const 1)))
           (if (i32.load (i32.const 2208))
             (then (call $next))
             (else
               (if (i32.load (i32.const 2212)) (then (call $link-to (i32.const 2232))))
               (call $post (i32.const 2216) (i32.const 7))))
           (call $stays))
         (func (export \"run\")
           (local $count i32)
           (call $self (i32.const 16))
           (call $monitor-group %\"chain\" (i32.const 2104))
           (i32.store (i32.const 2208) (i32.const {length}))
           (i32.store (i32.const 2212) (i32.const {cycle}))
           (call $copy-id (i32.const 16) (i32.const 2216))
           (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"chain\" (i32.const 2208) (i32.const 40)
             (i32.const 0) (i32.const 0) (i32.const 64))
           (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 256))))
           (call $watch (i32.const 256) (i32.const 192))
           (call $take (i32.const 7))
           (call $copy-id (i32.const 112) (i32.const 288))
           (call $signal-bytes (i32.const {which}) %\"the reason\")
           (drop (call $take-down-of (i32.const 192)))
           (call $print (i32.load (i32.const 156)) (i32.load (i32.const 160)))
           (loop $next
             (call $take-kinds (i32.const 16))
             (local.set $count (i32.add (local.get $count) (i32.load8_u (i32.const 128))))
             (br_if $next (i32.lt_u (local.get $count) (i32.const {length}))))
           (call $members %\"chain\" (i32.const 2096))
           (call $print-number (i32.load (i32.const 2100))))"
    )
}

#[test]
fn the_end_of_one_is_the_end_of_a_thousand() {
    // From the end to the beginning, and in reverse.
    prints(&chain(1000, 0, "288"), "the reason\n0\n");
    prints(&chain(1000, 0, "256"), "the reason\n0\n");
    prints(&chain(1000, 1, "288"), "the reason\n0\n");
}

#[test]
fn ten_thousand_links_of_one_process() {
    let body = "(func (export \"leaf\")
          (call $self (i32.const 16))
          (drop (call $enter %\"leaves\" (i32.const 16)))
          (call $stays))
        (func (export \"hub\")
          (local $count i32)
          (call $parent (i32.const 256))
          (i32.store8 (i32.const 2208) (i32.const 0))
          (loop $next
            (call $must (i32.eq (i32.const -1)
              (call $try-start-with %\"leaf\" (i32.const 2208) (i32.const 1) (i32.const 272))))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000))))
          (call $stays))
        (func (export \"run\")
          (local $count i32)
          (call $monitor-group %\"leaves\" (i32.const 2104))
          (call $start %\"hub\" (i32.const 256))
          (call $count (i32.const 0))
          (call $signal-bytes (i32.const 256) %\"the reason\")
          (call $count (i32.const 1))
          (call $print-number (call $lives (i32.const 256)))
          ;; In reverse: the end of one leaf ends the hub, and so all other leaves.
          (call $start %\"hub\" (i32.const 256))
          (call $count (i32.const 0))
          (call $signal-bytes (i32.const 136) %\"the reason\")
          (call $count (i32.const 1))
          (call $print-number (call $lives (i32.const 256))))
        (func $count (param $change i32)
          (local $count i32)
          (loop $next
            (call $take-kinds (i32.const 16))
            (call $must (i32.eq (i32.load8_u (i32.const 128)) (local.get $change)))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000)))))";
    Atoll::run(tied_guest(body))
        .outcome()
        .code(0)
        .stdout("0\n0\n")
        .stderr("");
}

/// Pieces for offenders that use signals.
fn tied() -> Guest<'static> {
    Guest {
        imports: TIES,
        body: TIE_FUNCTIONS,
        ..Guest::default()
    }
}

#[test]
fn cases_and_addresses_that_do_not_exist() {
    let outside = "lies outside of the memory (0x20000 bytes)";
    let cases = [
        (
            "(call $exit-process (i64.const 1) (i64.const 1) (i32.const 11) (i32.const 0) (i32.const 0))",
            "exit-process: 11 is no case of `exit-reason`",
        ),
        (
            "(call $exit-process (i64.const 1) (i64.const 1) (i32.const 8) (i32.const 5) (i32.const 0))",
            "exit-process: 5 is no case of `budget`",
        ),
        (
            "(call $exit-process (i64.const 1) (i64.const 1) (i32.const 10) (i32.const 0x1ffff) (i32.const 2))",
            &format!("exit-process: the reason (address 0x1ffff, 2 bytes) {outside}"),
        ),
        (
            "(call $exit-process (i64.const 1) (i64.const 1) (i32.const 2) (i32.const -1) (i32.const 1))",
            &format!("exit-process: the reason (address 0xffffffff, 1 bytes) {outside}"),
        ),
        (
            "(i32.store (i32.const 2304) (i32.const 0x80ff))
             (call $exit-process (i64.const 1) (i64.const 1) (i32.const 7) (i32.const 2304) (i32.const 2))",
            "exit-process: the trap's text is not UTF-8",
        ),
        (
            "(call $monitor (i32.const 2) (i64.const 1) (i64.const 1) (i32.const 2208))",
            "monitor: 2 is no case of `destination`",
        ),
        (
            "(call $monitor (i32.const 0) (i64.const 1) (i64.const 1) (i32.const 2212))",
            "monitor: the result's address 0x8a4 is not aligned",
        ),
        (
            "(call $monitor (i32.const 0) (i64.const 1) (i64.const 1) (i32.const 0x1fff8))",
            &format!("monitor (address 0x1fff8, 16 bytes) {outside}"),
        ),
        (
            "(call $watch-name (i32.const 0x20000) (i32.const 1) (i32.const 2208))",
            &format!("monitor: the name (address 0x20000, 1 bytes) {outside}"),
        ),
        (
            "(call $watch-name (i32.const 0) (i32.const 5000) (i32.const 2208))",
            "monitor: the name has 5000 bytes; the limit is 4096",
        ),
        (
            "(i32.store (i32.const 2304) (i32.const 0x80ff))
             (call $watch-name (i32.const 2304) (i32.const 2) (i32.const 2208))",
            "monitor: the name is not UTF-8",
        ),
    ];
    check_traps(&tied(), &[], &cases);
}

#[test]
fn a_reason_larger_than_a_message_ends_the_sender() {
    let offender = Offender {
        name: "sender",
        body: "(call $self (i32.const 16))
               (call $signal-bytes (i32.const 16) (i32.const 0) (i32.const 1001))",
        reason: "exhausted: message",
    };
    check_with(&tied(), &["--max-message", "1000"], &[offender]);
}

#[test]
fn pids_and_references_of_dead_processes_and_of_others() {
    let body = "(func (export \"thief\")
          ;; Its argument is a reference of main's.
          (call $argument (i32.const 176))
          (call $copy-id (i32.load (i32.const 176)) (i32.const 256))
          (call $print-number (call $unwatch (i32.const 256) (i32.const 1)))
          (call $print-number (call $demonitor-group (i64.load (i32.const 256)) (i64.load (i32.const 264))))
          (call $print-number (call $unalias (i64.load (i32.const 256)) (i64.load (i32.const 264))))
          (call $cancel-timer (i64.load (i32.const 256)) (i64.load (i32.const 264)) (i32.const 2080))
          (call $print-number (i32.load8_u (i32.const 2080))))
        (func $steal (param $slot i32)
          (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"thief\" (local.get $slot) (i32.const 16)
            (i32.const 0) (i32.const 0) (i32.const 64))
          (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 288))))
          (call $await-end (i32.const 288)))
        (func (export \"run\")
          (call $exit-process (i64.const 0) (i64.const 0) (i32.const 3) (i32.const 0) (i32.const 0))
          (call $exit-process (i64.const -1) (i64.const -1) (i32.const 3) (i32.const 0) (i32.const 0))
          (call $unlink (i64.const -1) (i64.const 0))
          (call $must (i32.eqz (call $demonitor (i64.const -1) (i64.const -1) (i32.const 1))))
          (call $start %\"stays\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (call $steal (i32.const 192))
          (call $must (call $unwatch (i32.const 192) (i32.const 0)))
          (call $alias (i32.const 192))
          (call $steal (i32.const 192))
          (call $must (call $unalias (i64.load (i32.const 192)) (i64.load (i32.const 200)))))";
    prints(body, "0\n0\n0\n0\n0\n0\n0\n0\n");
}

#[test]
fn more_ties_than_there_may_be() {
    let flood = |call: &str| {
        format!(
            "(call $self (i32.const 16)) (call $start %\"stays\" (i32.const 272)) (loop $again {call} (br $again))"
        )
    };
    let links = flood("(call $start %\"stays\" (i32.const 272)) (call $link-to (i32.const 272))");
    let monitors = flood("(call $watch (i32.const 272) (i32.const 192))");
    let aliases = flood("(call $alias (i32.const 192))");
    let groups = flood("(call $monitor-group %\"group\" (i32.const 2104))");
    let timers = flood(
        "(call $start-timer (i64.const 1000000000000) (i32.const 0) (i64.load (i32.const 16))
           (i64.load (i32.const 24)) (i32.const 1) (i32.const 192))",
    );
    let spawns = flood(
        "(i32.store (i32.const 2208) (i32.const 0))
         (drop (call $try-start-with %\"stays\" (i32.const 2208) (i32.const 1) (i32.const 272)))",
    );
    let offenders = [
        ("links", &links),
        ("monitors", &monitors),
        ("aliases", &aliases),
        ("groups", &groups),
        ("timers", &timers),
        ("spawns", &spawns),
    ]
    .map(|(name, body)| Offender {
        name,
        body,
        reason: "exhausted: resources",
    });
    // As main, an offender leaves processes that it has started. They end at once.
    check_with(&tied(), &["--max-ties", "100"], &offenders);
}

#[test]
fn each_monitor_of_a_spawn_counts() {
    // 32 options, each a monitor with a reference of its own.
    let body = "(func (export \"run\")
        (local $option i32) (local $at i32)
        (loop $fill
          (local.set $at (i32.add (i32.const 0x8000) (i32.mul (local.get $option) (i32.const 24))))
          (i32.store (local.get $at) (i32.const 1))
          (i64.store offset=16 (local.get $at) (i64.extend_i32_u (local.get $option)))
          (br_if $fill (i32.lt_u
            (local.tee $option (i32.add (local.get $option) (i32.const 1))) (i32.const 32))))
        (drop (call $try-start-with %\"stays\" (i32.const 0x8000) (i32.const 32) (i32.const 272)))
        (call $print %\"started\"))";
    let run = |ties: &str| {
        Atoll::run(tied_guest(body))
            .options(["--max-ties", ties])
            .outcome()
    };
    run("31")
        .code(138)
        .crash("run", "exhausted: resources")
        .stdout("");
    run("32").stdout("started\n");
}

#[test]
fn exactly_as_many_ties_as_there_may_be() {
    // A removed or used tie counts no more.
    let body = "(func (export \"run\")
          (local $count i32)
          (call $start %\"stays\" (i32.const 272))
          (loop $again
            (call $watch (i32.const 272) (i32.const 2208))
            (call $alias (i32.const 2224))
            (call $must (call $unalias (i64.load (i32.const 2224)) (i64.load (i32.const 2232))))
            (call $must (call $unwatch (i32.const 2208) (i32.const 0)))
            (call $link-to (i32.const 272))
            (call $unlink-from (i32.const 272))
            (call $must (i32.eqz (call $request (i32.const 288) (i32.const 1) (i32.const 0) (i32.const 0) (i64.const -1))))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
          (call $print-number (local.get $count))
          (call $link-to (i32.const 272))
          (call $watch (i32.const 272) (i32.const 2208))
          (call $print %\"as many as there may be\")
          (call $alias (i32.const 192))
          (call $print %\"it does not come to this\"))";
    let body = body.replacen(
        "(loop $again",
        "(call $start %\"server\" (i32.const 288)) (loop $again",
        1,
    );
    Atoll::run(tied_guest(&body))
        .options(["--max-ties", "2"])
        .outcome()
        .code(138)
        .stdout("1000\nas many as there may be\n")
        .crash("run", "exhausted: resources");
}

#[test]
fn monitors_by_others_do_not_use_up_a_process_s_ties() {
    let body = "(func (export \"watches\")
          (local $count i32)
          (call $parent (i32.const 256))
          (loop $again
            (call $watch (i32.const 256) (i32.const 192))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 90))))
          (call $post (i32.const 256) (i32.const 7))
          (call $stays))
        (func (export \"run\")
          (local $count i32)
          (loop $again
            (call $start %\"watches\" (i32.const 272))
            (call $take (i32.const 7))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 20))))
          (call $watch (i32.const 272) (i32.const 192))
          (call $link-to (i32.const 272))
          (call $print %\"goes on\"))";
    Atoll::run(tied_guest(body))
        .options(["--max-ties", "100"])
        .outcome()
        .code(0)
        .stdout("goes on\n")
        .stderr("");
}
