//! The host asks a guest's `cabi_realloc` for memory, and it may return or do anything. It can harm only its own process.

use crate::offenders::{Offender, check_with};
use atoll_tests::{Atoll, Guest};

/// A `cabi_realloc` that works until `$bad` is set, and then has this body.
fn realloc(body: &str) -> String {
    format!(
        "(global $bad (mut i32) (i32.const 0))
         (func $good (param $bytes i32) (result i32)
           (global.set $heap (i32.add (global.get $heap) (local.get $bytes)))
           (i32.sub (global.get $heap) (local.get $bytes)))
         (func $cabi_realloc (export \"cabi_realloc\") (param i32 i32 i32) (param $bytes i32) (result i32)
           (if (i32.eqz (global.get $bad)) (then (return (call $good (local.get $bytes)))))
           {body})"
    )
}

/// Turns bad and receives a message of twenty bytes, which needs memory.
const RECEIVE: &str = "(global.set $bad (i32.const 1))
    (call $self (i32.const 16))
    (i32.store (i32.const 1024) (i32.const 0x12345678))
    (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 1024) (i32.const 20))
    (drop (call $take-any))";

/// A process whose `cabi_realloc` has this body ends when it receives a message.
#[track_caller]
fn check_ends(body: &str, reason: &str) {
    let realloc = realloc(body);
    let pieces = Guest {
        realloc: &realloc,
        ..Guest::default()
    };
    let offender = Offender {
        name: "receiver",
        body: RECEIVE,
        reason,
    };
    check_with(&pieces, &[], &[offender]);
}

/// A main whose `cabi_realloc` has this body receives a message and then runs the given code.
#[track_caller]
fn check_prints(body: &str, then: &str, stdout: &str) {
    let realloc = realloc(body);
    let body = format!("(func (export \"run\") {RECEIVE} {then})");
    let guest = Guest {
        realloc: &realloc,
        body: &body,
        ..Guest::default()
    };
    Atoll::run(guest.text())
        .outcome()
        .code(0)
        .stdout(stdout)
        .stderr("");
}

#[test]
fn realloc_returns_addresses_outside_of_memory() {
    for address in [0x20000u32, 0x1ffed, 0x8000_0000, 0xffff_fffe, 0xffff_ffff] {
        check_ends(
            &format!("(i32.const {address})"),
            &format!(
                "trap: cabi_realloc: the room it returned (address {address:#x}, 20 bytes) lies outside of the memory (0x20000 bytes)"
            ),
        );
    }
}

/// The guest's own code stores short payloads.
#[test]
fn realloc_returns_addresses_outside_of_memory_for_short_payloads() {
    for bytes in [1u32, 3, 4, 7, 8, 15, 16] {
        let receive = RECEIVE.replace("(i32.const 20)", &format!("(i32.const {bytes})"));
        for address in [0x20000, 0x20001 - bytes, 0xffff_ffff] {
            let realloc = realloc(&format!("(i32.const {address})"));
            let pieces = Guest {
                realloc: &realloc,
                ..Guest::default()
            };
            let offender = Offender {
                name: "receiver",
                body: &receive,
                reason: "trap: wasm trap: out of bounds memory access",
            };
            check_with(&pieces, &[], &[offender]);
        }
    }
}

/// Payloads of every length around the longest short one arrive whole, and the host writes nothing around them.
#[test]
fn payloads_of_every_length_come_whole() {
    let body = "(func (export \"run\") (local $length i32) (local $at i32)
        (global.set $bad (i32.const 1))
        (call $self (i32.const 16))
        (i64.store (i32.const 1024) (i64.const 0x8877665544332211))
        (i64.store (i32.const 1032) (i64.const 0x00ffeeddccbbaa99))
        (i64.store (i32.const 1040) (i64.const 0x0102030405060708))
        (loop $next
          (memory.fill (i32.const 4096) (i32.const 0xee) (i32.const 64))
          (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 1024) (local.get $length))
          (drop (call $take-any))
          (local.set $at (i32.const 0))
          (loop $check
            (if (i32.ne (i32.load8_u (i32.add (i32.const 4096) (local.get $at)))
                (if (result i32) (i32.and (i32.ge_u (local.get $at) (i32.const 8))
                    (i32.lt_u (local.get $at) (i32.add (i32.const 8) (local.get $length))))
                  (then (i32.load8_u (i32.add (i32.const 1016) (local.get $at))))
                  (else (i32.const 0xee))))
              (then unreachable))
            (br_if $check (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 64))))
          (br_if $next (i32.le_u (local.tee $length (i32.add (local.get $length) (i32.const 1))) (i32.const 24))))
        (call $print-number (local.get $length)))";
    let realloc = realloc("(i32.const 4104)");
    let guest = Guest {
        realloc: &realloc,
        body,
        ..Guest::default()
    };
    Atoll::run(guest.text())
        .outcome()
        .code(0)
        .stdout("25\n")
        .stderr("");
}

#[test]
fn realloc_traps() {
    check_ends(
        "(unreachable)",
        "trap: wasm trap: wasm `unreachable` instruction executed",
    );
}

#[test]
fn realloc_recurses_without_end() {
    check_ends(
        "(call $cabi_realloc (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
        "trap: wasm trap: call stack exhausted",
    );
}

#[test]
fn realloc_receives_again() {
    // Each call of it sends a message to its own process and receives that, which calls it again.
    check_ends(
        &format!("{RECEIVE} (i32.const 1024)"),
        "trap: cabi_realloc called an imported function that returns a list",
    );
}

#[test]
fn realloc_never_ends() {
    let realloc = realloc("(loop $for-ever (br $for-ever)) (unreachable)");
    let body = format!(
        "(func (export \"receiver\") {RECEIVE})
         (func (export \"run\")
           (local $count i32)
           (call $start %\"neighbour\" (i32.const 256))
           (call $start %\"receiver\" (i32.const 272))
           (call $start %\"receiver\" (i32.const 272))
           (loop $again
             (local.set $count (call $ask (i32.const 256)))
             (br_if $again (i32.lt_u (local.get $count) (i32.const 100))))
           (call $print-number (local.get $count)))"
    );
    let guest = Guest {
        realloc: &realloc,
        body: &body,
        ..Guest::default()
    };
    for schedulers in ["1", "2"] {
        Atoll::run(guest.text())
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("100\n")
            .stderr("");
    }
}

#[test]
fn realloc_waits_for_a_message_without_a_payload() {
    // It is the guest's own code, and may do anything that leaves no list behind.
    check_prints(
        "(call $post (i32.const 16) (i32.const 9))
         (call $receive (i32.const 1) (i64.const 9) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 96))
         (call $yield-now)
         (i32.const 2048)",
        "(call $must (i32.eq (i32.load (i32.const 2048)) (i32.const 0x12345678)))
         (call $print %\"received\")",
        "received\n",
    );
}

#[test]
fn realloc_ends_the_process() {
    check_prints(
        "(call $exit (i32.const 0) (i32.const 0) (i32.const 0)) (unreachable)",
        "(call $print %\"it does not come to this\")",
        "",
    );
}

#[test]
fn realloc_grows_memory_so_that_it_moves() {
    // From two pages to the last address of 65 MiB: three sizes of slots.
    check_prints(
        "(drop (memory.grow (i32.const 1038))) (i32.const 0x40f0000)",
        "(call $must (i32.eq (i32.load (i32.const 164)) (i32.const 0x40f0000)))
         (call $must (i32.eq (i32.load (i32.const 0x40f0000)) (i32.const 0x12345678)))
         (call $print %\"received\")",
        "received\n",
    );
}

#[test]
fn realloc_returns_addresses_that_overlap_the_result() {
    // The payload and its address and length overwrite each other, which harms only the guest.
    for address in [0, 1, 96, 162, 164, 168, 0x1ffec] {
        check_prints(
            &format!("(i32.const {address})"),
            &format!(
                "(call $must (i32.eq (i32.load (i32.const 164)) (i32.const {address})))
                 (call $must (i32.eq (i32.load (i32.const 168)) (i32.const 20)))
                 (call $print %\"received\")"
            ),
            "received\n",
        );
    }
}

#[test]
fn arguments_and_error_texts_need_room_as_well() {
    let outside = "trap: cabi_realloc: the room it returned (address 0x20000, 16 bytes) lies outside of the memory (0x20000 bytes)";
    let realloc = realloc("(i32.const 0x20000)");
    let pieces = Guest {
        realloc: &realloc,
        body: "(func (export \"reader\") (global.set $bad (i32.const 1)) (call $argument (i32.const 176)))",
        ..Guest::default()
    };
    // As main it has no argument, and an empty list needs no memory.
    Atoll::run(pieces.text().replace("\"reader\"", "\"run\""))
        .outcome()
        .code(0);
    Atoll::run(pieces.text().replace("\"reader\"", "\"run\""))
        .options(["--argument", "sixteen bytes..."])
        .outcome()
        .code(134)
        .crash("run", outside);

    // The host refuses an empty name (case 2 of an option) with an error text.
    let offender = Offender {
        name: "spawner",
        body: "(global.set $bad (i32.const 1))
               (i32.store (i32.const 1024) (i32.const 2))
               (drop (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272)))",
        reason: "trap: cabi_realloc: the room it returned (address 0x20000, 25 bytes) lies outside of the memory (0x20000 bytes)",
    };
    let pieces = Guest {
        realloc: &realloc,
        ..Guest::default()
    };
    check_with(&pieces, &[], &[offender]);
}
