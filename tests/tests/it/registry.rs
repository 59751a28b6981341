//! Names and groups, and the lists of lists that they return.

use crate::offenders::{Offender, check_traps, check_with};
use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES, tied_guest};

/// Prints every text of the list at 2096, and their number.
const PRINT_TEXTS: &str = "(func $print-texts
    (local $at i32) (local $count i32)
    (local.set $at (i32.load (i32.const 2096)))
    (local.set $count (i32.load (i32.const 2100)))
    (call $print-number (local.get $count))
    (loop $next
      (if (local.get $count)
        (then
          (call $print (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (local.set $count (i32.sub (local.get $count) (i32.const 1)))
          (br $next)))))
  (func $print-names (call $registered (i32.const 2096)) (call $print-texts))
  (func $print-groups (call $which-groups (i32.const 2096)) (call $print-texts))
  (func $count (param $group i32) (param $bytes i32)
    (call $members (local.get $group) (local.get $bytes) (i32.const 2096))
    (call $print-number (i32.load (i32.const 2100))))";

/// Main does this, beside two processes at 256 and 272.
#[track_caller]
fn prints(run: &str, stdout: &str) {
    let body = format!(
        "{PRINT_TEXTS}
         (func (export \"run\")
           (local $count i32)
           (call $self (i32.const 16))
           (call $start %\"stays\" (i32.const 256))
           (call $start %\"stays\" (i32.const 272))
           ;; 300 times an `a`.
           (memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 300))
           {run})"
    );
    for schedulers in ["1", "2"] {
        Atoll::run(tied_guest(&body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout(stdout)
            .stderr("");
    }
}

#[test]
fn names_that_are_given_and_taken_away() {
    // taken (0), already-named (1), noproc (2).
    prints(
        "(call $must (call $is-nobody %\"one\"))
         (call $print-number (call $name %\"one\" (i32.const 256)))
         (call $must (call $is-named %\"one\" (i32.const 256)))
         (call $print-number (call $name %\"one\" (i32.const 272)))
         (call $print-number (call $name %\"two\" (i32.const 256)))
         (call $must (i32.ne (i32.const -1) (call $name %\"one\" (i32.const 256))))
         (call $must (call $is-nobody %\"two\"))
         (call $print-number (call $unregister %\"two\"))
         (call $print-number (call $unregister %\"one\"))
         (call $print-number (call $unregister %\"one\"))
         (call $must (call $is-nobody %\"one\"))
         (call $print-number (call $name %\"two\" (i32.const 256)))
         (call $print-number (call $name %\"one\" (i32.const 272)))
         ;; A name does not match its own beginning, and case matters.
         (call $must (call $is-nobody %\"on\"))
         (call $must (call $is-nobody %\"one \"))
         (call $must (call $is-nobody %\"One\"))
         (call $end (i32.const 272))
         (call $print-number (call $name %\"three\" (i32.const 272)))
         (call $print-number (call $name %\"one\" (i32.const 16)))",
        "4294967295\n0\n1\n0\n1\n0\n4294967295\n4294967295\n2\n4294967295\n",
    );
}

#[test]
fn names_of_the_dead_are_free() {
    // When the down-signal has come, the name has become free before.
    prints(
        "(loop $again
           (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 272))))
           (call $end (i32.const 272))
           (call $must (call $is-nobody %\"one\"))
           (call $must (i32.eqz (call $unregister %\"one\")))
           (call $start %\"stays\" (i32.const 272))
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100))))
         (call $print-names)",
        "0\n",
    );
}

#[test]
fn the_length_of_a_name() {
    // bad-name is case 3. A lookup of an impossible name gets that error.
    prints(
        "(call $print-number (call $name (i32.const 0x10000) (i32.const 0) (i32.const 256)))
         (call $print-number (call $name (i32.const 0x10000) (i32.const 256) (i32.const 256)))
         (call $print-number (call $name (i32.const 0x10000) (i32.const 255) (i32.const 256)))
         (call $print-number (call $name (i32.const 0x10000) (i32.const 1) (i32.const 272)))
         (call $must (call $is-named (i32.const 0x10000) (i32.const 255) (i32.const 256)))
         (call $must (call $is-named (i32.const 0x10000) (i32.const 1) (i32.const 272)))
         (call $must (call $is-nobody (i32.const 0x10000) (i32.const 254)))
         (call $must (call $is-nobody (i32.const 0x10000) (i32.const 256)))
         (call $must (call $is-nobody (i32.const 0x10000) (i32.const 0)))
         (call $must (i32.eqz (call $unregister (i32.const 0x10000) (i32.const 256))))
         (call $must (i32.eqz (call $unregister (i32.const 0x10000) (i32.const 0))))
         (call $must (call $unregister (i32.const 0x10000) (i32.const 255)))",
        "3\n3\n4294967295\n4294967295\n",
    );
}

#[test]
fn names_are_listed_in_order() {
    prints(
        "(call $print-names)
         (call $must (i32.eq (i32.const -1) (call $name %\"zwölf\" (i32.const 256))))
         (call $must (i32.eq (i32.const -1) (call $name %\"b\" (i32.const 272))))
         (call $must (i32.eq (i32.const -1) (call $name %\"abc\" (i32.const 16))))
         (call $print-names)
         (call $end (i32.const 272))
         (call $print-names)",
        "0\n3\nabc\nb\nzwölf\n2\nabc\nzwölf\n",
    );
}

#[test]
fn messages_to_names() {
    prints(
        "(call $print-number (call $send-named %\"me\" (i32.const 5) (i32.const 0) (i64.const 0) (i64.const 0)
           (i32.const 0) %\"payload\"))
         (call $must (i32.eq (i32.const -1) (call $name %\"me\" (i32.const 16))))
         (call $print-number (call $send-named %\"me\" (i32.const 6) (i32.const 1) (i64.const 7) (i64.const 8)
           (i32.const 1) %\"payload\"))
         (call $print-number (call $take-any))
         (call $must (call $same (i32.const 112) (i32.const 16)))
         (call $must (i64.eq (i64.load (i32.const 144)) (i64.const 7)))
         (call $must (i64.eq (i64.load (i32.const 152)) (i64.const 8)))
         (call $must (i32.eq (i32.load8_u (i32.const 160)) (i32.const 1)))
         (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168)))
         (call $must (call $is-empty))",
        "0\n1\n6\npayload\n",
    );
}

#[test]
fn members_of_groups() {
    // noproc (0), bad-name (1), too-many (2).
    prints(
        "(call $count %\"one\")
         (call $print-number (call $enter %\"one\" (i32.const 256)))
         (call $print-number (call $enter %\"one\" (i32.const 272)))
         (call $print-number (call $enter %\"one\" (i32.const 256)))
         (call $print-number (call $enter %\"another\" (i32.const 256)))
         (call $count %\"one\")
         (call $print-groups)
         (call $print-number (call $quit %\"one\" (i32.const 256)))
         (call $count %\"one\")
         (call $print-number (call $quit %\"one\" (i32.const 16)))
         (call $print-number (call $quit %\"nobody's\" (i32.const 256)))
         (call $end (i32.const 272))
         (call $members %\"one\" (i32.const 2096))
         (call $print-number (i32.load (i32.const 2100)))
         (call $must (call $same (i32.load (i32.const 2096)) (i32.const 256)))
         (call $print-number (call $quit %\"one\" (i32.const 256)))
         (call $print-number (call $quit %\"one\" (i32.const 256)))
         (call $print-groups)
         (call $end (i32.const 256))
         (call $print-groups)
         ;; Errors.
         (call $print-number (call $enter %\"one\" (i32.const 256)))
         (call $print-number (call $enter (i32.const 0x10000) (i32.const 0) (i32.const 16)))
         (call $print-number (call $enter (i32.const 0x10000) (i32.const 256) (i32.const 16)))
         (call $count (i32.const 0x10000) (i32.const 0))
         (call $count (i32.const 0x10000) (i32.const 256))
         (call $print-number (call $enter (i32.const 0x10000) (i32.const 255) (i32.const 16)))
         ;; A thousand and twenty-four joins, of one group as well.
         (loop $again
           (call $must (i32.eq (i32.const -1) (call $enter %\"one\" (i32.const 16))))
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1023))))
         (call $print-number (call $enter %\"one\" (i32.const 16)))
         (call $print-number (call $enter %\"two\" (i32.const 16)))
         (call $print-number (call $quit %\"one\" (i32.const 16)))
         (call $print-number (call $enter %\"two\" (i32.const 16)))
         (call $count %\"one\")",
        "0\n4294967295\n4294967295\n4294967295\n4294967295\n3\n2\nanother\none\n1\n2\n0\n0\n1\n1\n0\n1\nanother\n0\n\
         0\n1\n1\n0\n0\n4294967295\n2\n2\n1\n4294967295\n1022\n",
    );
}

#[test]
fn a_monitored_group() {
    // Change and process of each signal are compared with the real changes: joined (0), left (1).
    let expect = |change: u32, slot: u32| {
        format!(
            "(call $take-kinds (i32.const 16))
             (call $must (call $same (i32.const 112) (i32.const 2104)))
             (call $must (i32.eq (i32.load8_u (i32.const 128)) (i32.const {change})))
             (call $must (call $same (i32.const 136) (i32.const {slot})))"
        )
    };
    let (joined, left) = (expect(0, 256), expect(1, 256));
    prints(
        &format!(
            "(call $must (i32.eq (i32.const -1) (call $enter %\"one\" (i32.const 272))))
             (call $must (i32.eq (i32.const -1) (call $enter %\"one\" (i32.const 272))))
             (call $monitor-group %\"one\" (i32.const 2104))
             (call $print-number (i32.load (i32.const 2124)))
             (call $must (call $same (i32.load (i32.const 2120)) (i32.const 272)))
             (call $must (call $same (i32.add (i32.load (i32.const 2120)) (i32.const 16)) (i32.const 272)))
             (call $must (call $is-empty))
             (drop (call $enter %\"one\" (i32.const 256))) {joined}
             (drop (call $enter %\"other\" (i32.const 256)))
             (drop (call $enter %\"one\" (i32.const 256))) {joined}
             (drop (call $quit %\"one\" (i32.const 256))) {left}
             (drop (call $enter %\"one\" (i32.const 256))) {joined}
             (call $must (call $is-empty))
             ;; The end of a process undoes each of its joins.
             (call $end (i32.const 256)) {left} {left}
             (call $must (call $is-empty))
             ;; Signals that have arrived go with the monitor.
             (call $end (i32.const 272))
             (drop (call $enter %\"one\" (i32.const 16)))
             (call $print-number (call $demonitor-group (i64.load (i32.const 2104)) (i64.load (i32.const 2112))))
             (call $must (call $is-empty))
             (drop (call $quit %\"one\" (i32.const 16)))
             (call $print-number (call $demonitor-group (i64.load (i32.const 2104)) (i64.load (i32.const 2112))))
             (call $must (call $is-empty))
             ;; A group without members can be monitored, and a monitor does not create the group.
             (call $monitor-group %\"empty\" (i32.const 2104))
             (call $print-number (i32.load (i32.const 2124)))
             (call $print-groups)
             (drop (call $enter %\"empty\" (i32.const 16))) {}",
            expect(0, 16)
        ),
        "2\n1\n0\n0\n0\n",
    );
}

#[test]
fn ten_thousand_members() {
    // Every list is longer than a page, and gets memory from `cabi_realloc`.
    let body = format!(
        "{PRINT_TEXTS}
         (func (export \"run\")
           (local $count i32)
           (loop $again
             (call $start %\"stays\" (i32.const 272))
             (call $must (i32.eq (i32.const -1) (call $enter %\"group\" (i32.const 272))))
             (i32.store (i32.const 2304) (i32.add (i32.const 0x30303030) (call $digits (local.get $count))))
             (call $must (i32.eq (i32.const -1) (call $name (i32.const 2304) (i32.const 4) (i32.const 272))))
             (br_if $again (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000))))
           (call $count %\"group\")
           (call $registered (i32.const 2096))
           (call $print-texts))
         ;; Four digits as four bytes, the first one in the lowest.
         (func $digits (param i32) (result i32)
           (i32.or
             (i32.or
               (i32.div_u (local.get 0) (i32.const 1000))
               (i32.shl (i32.rem_u (i32.div_u (local.get 0) (i32.const 100)) (i32.const 10)) (i32.const 8)))
             (i32.or
               (i32.shl (i32.rem_u (i32.div_u (local.get 0) (i32.const 10)) (i32.const 10)) (i32.const 16))
               (i32.shl (i32.rem_u (local.get 0) (i32.const 10)) (i32.const 24)))))"
    );
    let names: String = (0..10_000).map(|number| format!("{number:04}\n")).collect();
    Atoll::run(tied_guest(&body))
        .outcome()
        .code(0)
        .stdout(&format!("10000\n10000\n{names}"))
        .stderr("");
}

/// A guest whose `cabi_realloc` works until `$bad` has counted down to 1. Then it returns this.
fn realloc(answer: &str) -> String {
    format!(
        "(global $bad (mut i32) (i32.const 0))
         (func (export \"cabi_realloc\")
           (param i32 i32) (param $alignment i32) (param $bytes i32) (result i32)
           (if (i32.eq (global.get $bad) (i32.const 1)) (then (return {answer})))
           (if (global.get $bad) (then (global.set $bad (i32.sub (global.get $bad) (i32.const 1)))))
           (global.set $heap
             (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
           (global.set $heap (i32.add (global.get $heap) (local.get $bytes)))
           (i32.sub (global.get $heap) (local.get $bytes)))"
    )
}

#[track_caller]
fn check_ends(answer: &str, offenders: &[(&str, &str, &str)]) {
    let realloc = realloc(answer);
    let pieces = Guest {
        imports: TIES,
        realloc: &realloc,
        body: TIE_FUNCTIONS,
        ..Guest::default()
    };
    let bodies: Vec<String> = offenders
        .iter()
        .map(|(_, body, _)| {
            format!(
                "(call $self (i32.const 16))
                 (drop (call $name %\"name\" (i32.const 16)))
                 (drop (call $enter %\"group\" (i32.const 16)))
                 {body}"
            )
        })
        .collect();
    let offenders: Vec<_> = offenders
        .iter()
        .zip(&bodies)
        .map(|((name, _, reason), body)| Offender { name, body, reason })
        .collect();
    check_with(&pieces, &[], &offenders);
}

#[test]
fn realloc_returns_room_that_is_not_aligned() {
    let unaligned = "trap: cabi_realloc: the room it returned (address 0x8002) is not aligned";
    check_ends(
        "(i32.const 0x8002)",
        &[
            (
                "registered",
                "(global.set $bad (i32.const 1)) (call $registered (i32.const 2096))",
                unaligned,
            ),
            (
                "which-groups",
                "(global.set $bad (i32.const 1)) (call $which-groups (i32.const 2096))",
                unaligned,
            ),
            (
                "members",
                "(global.set $bad (i32.const 1)) (call $members %\"group\" (i32.const 2096))",
                unaligned,
            ),
            (
                "monitor",
                "(global.set $bad (i32.const 1)) (call $monitor-group %\"group\" (i32.const 2104))",
                unaligned,
            ),
            // A text may have any address, so the second list is valid.
            (
                "text",
                "(global.set $bad (i32.const 2)) (call $registered (i32.const 2096))
                 (call $must (i32.eq (i32.load (i32.load (i32.const 2096))) (i32.const 0x8002)))
                 (call $exit (i32.const 7) %\"as it should be\")",
                "trap: as it should be",
            ),
        ],
    );
}

#[test]
fn realloc_returns_room_outside_of_memory() {
    let outside = |bytes: u32| {
        format!(
            "trap: cabi_realloc: the room it returned (address 0x1fffc, {bytes} bytes) lies outside of the memory (0x20000 bytes)"
        )
    };
    check_ends(
        "(i32.const 0x1fffc)",
        &[
            (
                "registered",
                "(global.set $bad (i32.const 1)) (call $registered (i32.const 2096))",
                &outside(8),
            ),
            (
                "text",
                "(drop (call $unregister %\"name\")) (drop (call $name %\"names\" (i32.const 16)))
                 (global.set $bad (i32.const 2)) (call $registered (i32.const 2096))",
                &outside(5),
            ),
        ],
    );
}

#[test]
fn realloc_asks_for_lists_between_lists() {
    check_ends(
        "(block (result i32) (call $registered (i32.const 2096)) (i32.const 0x8000))",
        &[(
            "text",
            "(global.set $bad (i32.const 2)) (call $registered (i32.const 2096))",
            "trap: cabi_realloc called an imported function that returns a list",
        )],
    );
}

#[test]
fn realloc_puts_all_lists_in_one_place() {
    // The texts overwrite the list that points to them, and the result, which harms only the guest.
    let realloc = realloc("(global.get $place)");
    for place in ["0x8000", "2096", "2100", "0x1fff8"] {
        let body = format!(
            "{TIE_FUNCTIONS}
             (global $place i32 (i32.const {place}))
             (func (export \"run\")
               (local $count i32)
               (call $start %\"neighbour\" (i32.const 256))
               (loop $again
                 (call $start %\"stays\" (i32.const 272))
                 (i32.store8 (i32.const 2304) (i32.add (i32.const 97) (local.get $count)))
                 (drop (call $name (i32.const 2304) (i32.const 8) (i32.const 272)))
                 (br_if $again (i32.lt_u
                   (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 20))))
               (call $start %\"offender\" (i32.const 272))
               (call $watch (i32.const 272) (i32.const 192))
               (drop (call $take-down-of (i32.const 192)))
               (call $print-number (call $ask (i32.const 256))))
             (func (export \"offender\")
               (global.set $bad (i32.const 1))
               (call $registered (i32.const 2096)))"
        );
        let guest = Guest {
            imports: TIES,
            realloc: &realloc,
            body: &body,
            ..Guest::default()
        };
        let outcome = Atoll::run(guest.text()).outcome().code(0).stdout("1\n");
        for crash in outcome.crashes() {
            assert!(crash.reason.starts_with("trap: "), "{outcome}");
        }
    }
}

#[test]
fn addresses_that_are_not_there() {
    let outside = "lies outside of the memory (0x20000 bytes)";
    let pid = "(i64.const 1) (i64.const 1)";
    let cases = [
        (
            format!("(call $register (i32.const 0x20000) (i32.const 1) {pid} (i32.const 2048))"),
            format!("register: the name (address 0x20000, 1 bytes) {outside}"),
        ),
        (
            format!("(call $register %\"name\" {pid} (i32.const 0x1ffff))"),
            format!("register (address 0x1ffff, 2 bytes) {outside}"),
        ),
        (
            "(drop (call $unregister (i32.const -1) (i32.const 1)))".into(),
            format!("unregister: the name (address 0xffffffff, 1 bytes) {outside}"),
        ),
        (
            "(call $whereis %\"name\" (i32.const 2052))".into(),
            "whereis: the result's address 0x804 is not aligned".into(),
        ),
        (
            "(call $whereis %\"name\" (i32.const 0x1fff0))".into(),
            format!("whereis (address 0x1fff0, 24 bytes) {outside}"),
        ),
        (
            "(i32.store (i32.const 2304) (i32.const 0x80ff))
             (call $whereis (i32.const 2304) (i32.const 2) (i32.const 2056))"
                .into(),
            "whereis: the name is not UTF-8".into(),
        ),
        (
            "(call $registered (i32.const 2098))".into(),
            "registered: the result's address 0x832 is not aligned".into(),
        ),
        (
            "(call $registered (i32.const 0x1fffc))".into(),
            format!("registered (address 0x1fffc, 8 bytes) {outside}"),
        ),
        (
            format!("(call $join (i32.const 0) (i32.const -1) {pid} (i32.const 2048))"),
            format!("join: the group (address 0x0, 4294967295 bytes) {outside}"),
        ),
        (
            format!("(drop (call $leave (i32.const 0x1ffff) (i32.const 2) {pid}))"),
            format!("leave: the group (address 0x1ffff, 2 bytes) {outside}"),
        ),
        (
            "(call $members %\"group\" (i32.const 0x1fffc))".into(),
            format!("members (address 0x1fffc, 8 bytes) {outside}"),
        ),
        (
            "(call $which-groups (i32.const 1))".into(),
            "which-groups: the result's address 0x1 is not aligned".into(),
        ),
        (
            "(call $monitor-group %\"group\" (i32.const 0x1fff0))".into(),
            format!("monitor (address 0x1fff0, 24 bytes) {outside}"),
        ),
        (
            "(call $monitor-group %\"group\" (i32.const 2108))".into(),
            "monitor: the result's address 0x83c is not aligned".into(),
        ),
        (
            "(drop (call $send-named (i32.const 0x20000) (i32.const 1) (i32.const 5) (i32.const 0)
               (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))"
                .into(),
            format!("send-named: the name (address 0x20000, 1 bytes) {outside}"),
        ),
        (
            "(drop (call $send-named %\"name\" (i32.const 5) (i32.const 0)
               (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0x20000) (i32.const 1)))"
                .into(),
            format!("send-named: the payload (address 0x20000, 1 bytes) {outside}"),
        ),
    ];
    let pieces = Guest {
        imports: TIES,
        body: TIE_FUNCTIONS,
        ..Guest::default()
    };
    check_traps(&pieces, &[], &cases);
}
