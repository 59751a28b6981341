//! Made-up addresses, lengths and cases, passed to every function of the contract and of WASI.

use crate::offenders::{self, Offender, check};

/// A call with a made-up argument, and the trap's text.
#[track_caller]
fn check_traps(cases: &[(&str, &str)]) {
    offenders::check_traps(&atoll_tests::Guest::default(), &[], cases);
}

/// The text for a result's address. The memory has two pages.
fn outside(what: &str, address: u32, bytes: u32) -> String {
    format!(
        "{what} (address {address:#x}, {bytes} bytes) lies outside of the memory (0x20000 bytes)"
    )
}

/// Passes a function with a result of this size every bad address for it.
#[track_caller]
fn check_result(call: impl Fn(&str) -> String, what: &str, bytes: u32) {
    // A bare list is aligned to its words, a record with a u64 to eight bytes.
    let alignment = if bytes == 8 { 4 } else { 8 };
    let outside_addresses = [
        0x20000 - bytes + alignment,
        0x20000 - alignment,
        0x20000,
        0x8000_0000,
        0u32.wrapping_sub(bytes),
        0u32.wrapping_sub(alignment),
    ];
    let mut cases: Vec<(String, String)> = outside_addresses
        .iter()
        .map(|address| {
            let text = outside(what, *address, bytes);
            (call(&format!("(i32.const {address})")), text)
        })
        .collect();
    for address in [0x101u32, 0x102, 0x103, 0x100 + alignment / 2, 0xffff_ffff] {
        let text = format!("{what}: the result's address {address:#x} is not aligned");
        cases.push((call(&format!("(i32.const {address})")), text));
    }
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(call, text)| (call.as_str(), text.as_str()))
        .collect();
    check_traps(&cases);
}

#[test]
fn self_with_a_bad_result_address() {
    check_result(|address| format!("(call $self {address})"), "self", 16);
}

#[test]
fn argument_with_a_bad_result_address() {
    check_result(
        |address| format!("(call $argument {address})"),
        "argument",
        8,
    );
}

#[test]
fn make_reference_with_a_bad_result_address() {
    check_result(
        |address| format!("(call $make-reference {address})"),
        "make-reference",
        16,
    );
}

#[test]
fn receive_with_a_bad_result_address() {
    // A message waits, and the failed call must not take it.
    check_result(
        |address| {
            format!(
                "(call $self (i32.const 16)) (call $post (i32.const 16) (i32.const 7))
                 (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) {address})"
            )
        },
        "receive",
        80,
    );
}

#[test]
fn spawn_with_a_bad_result_address() {
    check_result(
        |address| {
            format!(
                "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"neighbour\"
                   (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) {address})"
            )
        },
        "spawn",
        24,
    );
}

/// Ranges that are not in memory, for every use.
const RANGES: [(u32, u32); 7] = [
    (0x20001, 0),
    (0x1ffff, 2),
    (0x20000, 1),
    (0, 0x20001),
    (1024, 0x3ff_0000),
    (0xffff_ffff, 1),
    (0xffff_fff0, 0x3ff_0000),
];

/// Passes every bad range to a function that reads memory.
#[track_caller]
fn check_range(call: impl Fn(&str) -> String, what: &str) {
    let cases: Vec<(String, String)> = RANGES
        .iter()
        .map(|(address, bytes)| {
            let operands = format!("(i32.const {address}) (i32.const {bytes})");
            (call(&operands), outside(what, *address, *bytes))
        })
        .collect();
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(call, text)| (call.as_str(), text.as_str()))
        .collect();
    check_traps(&cases);
}

#[test]
fn send_of_a_payload_outside_of_memory() {
    check_range(
        |range| {
            format!(
                "(call $self (i32.const 16))
                 (call $post-bytes (i32.const 16) (i32.const 1) {range})"
            )
        },
        "send: the payload",
    );
}

#[test]
fn exit_with_a_reason_outside_of_memory() {
    // shutdown-with, trap, other.
    for case in [2, 7, 10] {
        check_range(
            |range| format!("(call $exit (i32.const {case}) {range})"),
            "exit: the reason",
        );
    }
}

#[test]
fn spawn_with_names_and_argument_outside_of_memory() {
    check_range(
        |range| {
            format!(
                "(call $spawn (i32.const 1) {range} %\"neighbour\" (i32.const 0) (i32.const 0)
                   (i32.const 0) (i32.const 0) (i32.const 64))"
            )
        },
        "spawn: the program's name",
    );
    check_range(
        |range| {
            format!(
                "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) {range} (i32.const 0) (i32.const 0)
                   (i32.const 0) (i32.const 0) (i32.const 64))"
            )
        },
        "spawn: the function's name",
    );
    check_range(
        |range| {
            format!(
                "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"neighbour\" {range}
                   (i32.const 0) (i32.const 0) (i32.const 64))"
            )
        },
        "spawn: the argument",
    );
    // A label's address and length are in the element: case 6 at 1024, the text at 1032.
    check_range(
        |range| {
            let mut operands = range.split(") (");
            let address = operands.next().unwrap_or_default();
            let bytes = operands.next().unwrap_or_default();
            format!(
                "(i32.store (i32.const 1024) (i32.const 6))
                 (i32.store (i32.const 1032) {address}))
                 (i32.store (i32.const 1036) ({bytes})
                 (drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272)))"
            )
        },
        "spawn: the label",
    );
}

#[test]
fn spawn_options_and_selector_tags_outside_of_memory() {
    let options = |address: u32, count: u32| {
        format!(
            "(drop (call $try-start-with %\"neighbour\" (i32.const {address}) (i32.const {count}) (i32.const 272)))"
        )
    };
    let tags = |address: u32, count: u32| {
        format!(
            "(call $receive (i32.const 2) (i64.const {address}) (i64.const {count})
               (i32.const 1) (i64.const 0) (i32.const 96))"
        )
    };
    let what = "spawn: the options";
    let cases = [
        (options(0x1fff0, 1), outside(what, 0x1fff0, 24)),
        (options(0x20000, 1), outside(what, 0x20000, 24)),
        (options(0xffff_fff8, 1), outside(what, 0xffff_fff8, 24)),
        (
            tags(0x1fffc, 2),
            outside("receive: the selector's tags", 0x1fffc, 8),
        ),
        (
            tags(0x20000, 1),
            outside("receive: the selector's tags", 0x20000, 4),
        ),
        (
            tags(0xffff_fffc, 64),
            outside("receive: the selector's tags", 0xffff_fffc, 256),
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(call, text)| (call.as_str(), text.as_str()))
        .collect();
    check_traps(&cases);
    // An option at the end of memory, with the next one outside: the first is label "" (case 6), the second does not exist.
    let last = format!(
        "(i32.store (i32.const 0x1ffe8) (i32.const 6)) {}",
        options(0x1ffe8, 2)
    );
    check_traps(&[(&last, &outside(what, 0x20000, 24))]);
}

#[test]
fn lies_about_lengths() {
    check_traps(&[
        (
            "(drop (call $try-start-with %\"neighbour\" (i32.const 0) (i32.const -1) (i32.const 272)))",
            "spawn: 4294967295 options are more than the limit of 32",
        ),
        (
            "(drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1000) (i32.const 272)))",
            "spawn: 1000 options are more than the limit of 32",
        ),
        (
            "(call $receive (i32.const 2) (i64.const 0) (i64.const 65) (i32.const 0) (i64.const 0) (i32.const 96))",
            "receive: a selector may list 64 tags, not 65",
        ),
        (
            "(call $receive (i32.const 2) (i64.const 0) (i64.const 0xffffffff)
               (i32.const 0) (i64.const 0) (i32.const 96))",
            "receive: a selector may list 64 tags, not 4294967295",
        ),
        (
            "(call $spawn (i32.const 1) (i32.const 0) (i32.const -1) %\"neighbour\"
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))",
            "spawn: the program's name (address 0x0, 4294967295 bytes) lies outside of the memory (0x20000 bytes)",
        ),
        (
            "(drop (call $try-start (i32.const 0) (i32.const -1) (i32.const 272)))",
            "spawn: the function's name (address 0x0, 4294967295 bytes) lies outside of the memory (0x20000 bytes)",
        ),
        (
            "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"neighbour\"
               (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 64))",
            "spawn: the argument (address 0x0, 4294967295 bytes) lies outside of the memory (0x20000 bytes)",
        ),
    ]);
    // Over the limit of a message, which the host checks first.
    check(&[
        Offender {
            name: "send",
            body: "(call $self (i32.const 16))
                   (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const -1))",
            reason: "exhausted: message",
        },
        Offender {
            name: "exit",
            body: "(call $exit (i32.const 10) (i32.const 0) (i32.const -1))",
            reason: "exhausted: message",
        },
    ]);
}

#[test]
fn cases_that_do_not_exist() {
    let send = |has_reference: u32, format: u32| {
        format!(
            "(call $send (i64.const 1) (i64.const 1) (i32.const 1) (i32.const {has_reference}) (i64.const 0)
               (i64.const 0) (i32.const {format}) (i32.const 0) (i32.const 0))"
        )
    };
    let receive = |selector: u32, has_timeout: u32| {
        format!(
            "(call $receive (i32.const {selector}) (i64.const 0) (i64.const 0) (i32.const {has_timeout})
               (i64.const 0) (i32.const 96))"
        )
    };
    check_traps(&[
        ("(call $exit (i32.const 11) (i32.const 0) (i32.const 0))", "exit: 11 is no case of `exit-reason`"),
        ("(call $exit (i32.const -1) (i32.const 0) (i32.const 0))", "exit: 4294967295 is no case of `exit-reason`"),
        ("(call $exit (i32.const 8) (i32.const 5) (i32.const 0))", "exit: 5 is no case of `budget`"),
        (&send(2, 0), "send: the payload: 2 is no case of `option`"),
        (&send(0, 2), "send: the payload: 2 is no case of `format`"),
        (&send(0xffff_ffff, 0), "send: the payload: 4294967295 is no case of `option`"),
        (&receive(5, 1), "receive: 5 is no case of `selector`"),
        (&receive(0, 2), "receive: 2 is no case of `option`"),
        (
            "(call $spawn (i32.const 2) (i32.const 0) (i32.const 0) %\"neighbour\"
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))",
            "spawn: 2 is no case of `option`",
        ),
        (
            "(i32.store (i32.const 1024) (i32.const 24))
             (drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272)))",
            "spawn: 24 is no case of `spawn-option`",
        ),
        (
            "(i32.store (i32.const 1024) (i32.const 255))
             (drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272)))",
            "spawn: 255 is no case of `spawn-option`",
        ),
    ]);
}

#[test]
fn texts_that_are_not_utf8() {
    let bad = "(i32.store (i32.const 2048) (i32.const 0x80ff))";
    let text = "(i32.const 2048) (i32.const 2)";
    check_traps(&[
        (
            &format!("{bad} (call $exit (i32.const 7) {text})"),
            "exit: the trap's text is not UTF-8",
        ),
        (
            &format!("{bad} (drop (call $try-start {text} (i32.const 272)))"),
            "spawn: the function's name is not UTF-8",
        ),
        (
            &format!("{bad} (drop (call $try-start-in {text} %\"neighbour\" (i32.const 272)))"),
            "spawn: the program's name is not UTF-8",
        ),
        (
            &format!(
                "{bad} (i32.store (i32.const 1024) (i32.const 6)) (i32.store (i32.const 1032) (i32.const 2048))
                 (i32.store (i32.const 1036) (i32.const 2))
                 (drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272)))"
            ),
            "spawn: the label is not UTF-8",
        ),
    ]);
}

#[test]
fn names_and_labels_that_are_too_long() {
    // 5000 times "a".
    let fill = "(memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 5000))";
    let text = "(i32.const 0x10000) (i32.const 5000)";
    check_traps(&[
        (
            &format!("{fill} (drop (call $try-start {text} (i32.const 272)))"),
            "spawn: the function's name has 5000 bytes; the limit is 4096",
        ),
        (
            &format!("{fill} (drop (call $try-start-in {text} %\"neighbour\" (i32.const 272)))"),
            "spawn: the program's name has 5000 bytes; the limit is 4096",
        ),
        (
            &format!(
                "{fill} (i32.store (i32.const 1024) (i32.const 6)) (i32.store (i32.const 1032) (i32.const 0x10000))
                 (i32.store (i32.const 1036) (i32.const 5000))
                 (drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272)))"
            ),
            "spawn: the label has 5000 bytes; the limit is 4096",
        ),
    ]);
}
