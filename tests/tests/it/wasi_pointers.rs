//! Made-up addresses and lengths for functions of WASI preview 1: the result is a trap or an error number, without harm.

use crate::offenders::{Offender, check_with};
use atoll_tests::{Atoll, Guest};

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $wasi-write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
"#;

/// Puts the address and length of one piece at 1024.
fn piece(address: u32, bytes: u32) -> String {
    format!(
        "(i32.store (i32.const 1024) (i32.const {address})) (i32.store (i32.const 1028) (i32.const {bytes}))"
    )
}

#[test]
fn addresses_outside_of_memory_trap() {
    let region = |start: u32, length: u32| {
        format!("trap: Pointer out of bounds: Region {{ start: {start}, len: {length} }}")
    };
    let write = |at: u32, result: u32| {
        format!(
            "(drop (call $wasi-write (i32.const 1) (i32.const {at}) (i32.const 1) (i32.const {result})))"
        )
    };
    let misaligned = "trap: Pointer not aligned to 4: Region { start: 1, len: 4 }";
    let cases: [(&str, String, String); 6] = [
        ("pieces", write(0x1fffc, 16), region(0x20000, 4)),
        ("pieces-misaligned", write(1, 16), misaligned.to_owned()),
        (
            "written",
            piece(0, 0) + &write(1024, 0xffff_fffc),
            region(0xffff_fffc, 4),
        ),
        (
            "text",
            piece(0x1fff0, 100) + &write(1024, 16),
            region(0x1fff0, 100),
        ),
        (
            "random",
            "(drop (call $random_get (i32.const 0x1ffff) (i32.const 2)))".into(),
            "trap: wasm trap: out of bounds memory access".into(),
        ),
        (
            "random-length",
            "(drop (call $random_get (i32.const 0) (i32.const -1)))".into(),
            "trap: wasm trap: out of bounds memory access".into(),
        ),
    ];
    let offenders: Vec<Offender<'_>> = cases
        .iter()
        .map(|(name, body, reason)| Offender { name, body, reason })
        .collect();
    let pieces = Guest {
        imports: IMPORTS,
        ..Guest::default()
    };
    check_with(&pieces, &[], &offenders);
}

#[test]
fn every_bad_address_is_a_trap_or_an_error() {
    // Each function may succeed or fail: main calls the neighbour after each.
    let bad = ["0x1fffd", "0x20000", "0x7fffffff", "-1", "-4", "-16"];
    let calls = [
        "(call $wasi-write (i32.const 1) (i32.const BAD) (i32.const 1) (i32.const 16))",
        "(call $wasi-write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 16))",
        "(call $wasi-write (i32.const 1) (i32.const 1024) (i32.const BAD) (i32.const 16))",
        "(call $fd_read (i32.const 0) (i32.const BAD) (i32.const 1) (i32.const 16))",
        "(call $fd_read (i32.const 0) (i32.const 1024) (i32.const -1) (i32.const BAD))",
        "(call $environ_get (i32.const BAD) (i32.const BAD))",
        "(call $args_sizes_get (i32.const BAD) (i32.const 16))",
        "(call $clock_time_get (i32.const 1) (i64.const 1) (i32.const BAD))",
        "(call $random_get (i32.const BAD) (i32.const 100))",
        "(call $poll_oneoff (i32.const BAD) (i32.const BAD) (i32.const 1) (i32.const 16))",
        "(call $poll_oneoff (i32.const 0) (i32.const 4096) (i32.const -1) (i32.const 16))",
    ];
    let mut functions = String::new();
    let mut run = String::from("(call $start %\"neighbour\" (i32.const 256))");
    let mut count = 0;
    for bad in bad {
        for call in calls {
            count += 1;
            functions += &format!(
                "(func (export \"case-{count}\") (drop {}))\n",
                call.replace("BAD", bad)
            );
            run += &format!(
                "(call $start %\"case-{count}\" (i32.const 272))
                 (call $await-end (i32.const 272))
                 (call $must (i32.eq (call $ask (i32.const 256)) (i32.const {count})))"
            );
        }
    }
    let guest = Guest {
        imports: IMPORTS,
        body: &format!(
            "{functions} (func (export \"run\") {run} (call $print-number (i32.const {count})))"
        ),
        ..Guest::default()
    };
    let outcome = Atoll::run(guest.text())
        .outcome()
        .code(0)
        .stdout(&format!("{count}\n"));
    for crash in outcome.crashes() {
        assert!(
            crash.reason.starts_with("trap: Pointer ")
                || crash.reason == "trap: wasm trap: out of bounds memory access",
            "{crash:?}"
        );
    }
}

#[test]
fn a_module_without_a_memory_uses_wasi() {
    Atoll::run(
        "(module
           (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
           (func (export \"_start\")
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))",
    )
    .outcome()
    .code(134)
    .stdout("")
    .crash("_start", "trap: the module does not export its memory as `memory`");
}
