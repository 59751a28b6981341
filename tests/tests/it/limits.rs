//! Guests that exceed limits: memory, tables, processes, mailboxes, messages, stack, handles.

use crate::offenders::{Offender, check, check_with};
use crate::prints;
use atoll_tests::{Atoll, Guest, bare_guest, guest};

/// Grows a memory or table until that fails, prints its size, and calls a neighbour.
fn grow_for_ever(grow: &str, size: &str) -> String {
    format!(
        "(func (export \"run\")
           (call $start %\"neighbour\" (i32.const 256))
           (loop $again (br_if $again (i32.ne (i32.const -1) {grow})))
           (call $print-number {size})
           (call $must (i32.eq (i32.const -1) {grow}))
           (call $must (i32.eq (call $ask (i32.const 256)) (i32.const 1)))
           (call $print %\"goes on\"))"
    )
}

#[test]
fn memory_that_starts_with_4_gib() {
    let guest = bare_guest("(func (export \"run\"))")
        .replace("(export \"memory\") 2", "(export \"memory\") 65536");
    Atoll::run(&guest)
        .outcome()
        .code(1)
        .stderr_has("can't be loaded: the module's memory is too large: ")
        .stderr_has("hint: raise --max-memory");
    // The same beside a program that can run.
    Atoll::run(atoll_tests::guest("(func (export \"run\"))"))
        .program("large", &guest)
        .outcome()
        .code(1)
        .stderr_has("large.wat` can't be loaded: the module's memory is too large: ");
}

#[test]
fn memory_that_starts_with_4_gib_where_that_is_allowed() {
    let text = guest(
        "(func (export \"run\")
           (i32.store (i32.const 0xfffffffc) (i32.const 7))
           (call $must (i32.eq (i32.const -1) (memory.grow (i32.const 1))))
           (call $print-number (i32.load (i32.const 0xfffffffc))))",
    )
    .replace("(export \"memory\") 2", "(export \"memory\") 65536");
    Atoll::run(text)
        .options(["--max-memory", "4GiB"])
        .outcome()
        .code(0)
        .stdout("7\n");
}

#[test]
fn grows_memory_for_ever() {
    let body = grow_for_ever("(memory.grow (i32.const 1))", "(memory.size)");
    for (limit, pages) in [("64MiB", "1024"), ("1MiB", "16"), ("131072", "2")] {
        Atoll::run(guest(&body))
            .options(["--max-memory", limit])
            .outcome()
            .code(0)
            .stdout(&format!("{pages}\ngoes on\n"))
            .stderr("");
    }
    // The system's limit is 1 GiB by default.
    let steps = grow_for_ever("(memory.grow (i32.const 256))", "(memory.size)");
    Atoll::run(guest(&steps))
        .outcome()
        .code(0)
        .stdout("16130\ngoes on\n");
}

#[test]
fn grows_a_table_for_ever() {
    let table = "(table $table 0 funcref)";
    let body = grow_for_ever(
        "(table.grow $table (ref.null func) (i32.const 1000))",
        "(table.size $table)",
    );
    Atoll::run(guest(&format!("{table} {body}")))
        .outcome()
        .code(0)
        .stdout("1048000\ngoes on\n")
        .stderr("");
}

#[test]
fn memory_and_tables_that_refuse_to_grow_use_nothing_up() {
    // The module's own maximum is far below the system's. A growth beyond it must not count as used.
    let body = "(table $table 1 100 funcref)
        (func (export \"run\")
          (call $must (i32.eq (i32.const -1) (memory.grow (i32.const 16382))))
          (call $must (i32.eq (i32.const -1) (memory.grow (i32.const 16382))))
          (call $print-number (memory.grow (i32.const 98)))
          (call $print-number (memory.size))
          (call $must (i32.eq (i32.const -1) (table.grow $table (ref.null func) (i32.const 1048575))))
          (call $must (i32.eq (i32.const -1) (table.grow $table (ref.null func) (i32.const 1048575))))
          (call $print-number (table.grow $table (ref.null func) (i32.const 99)))
          (call $print-number (table.size $table)))";
    let guest = Guest {
        memory: "(memory (export \"memory\") 2 100)",
        body,
        ..Guest::default()
    };
    Atoll::run(guest.text())
        .outcome()
        .code(0)
        .stdout("2\n100\n1\n100\n");
}

#[test]
fn all_memories_of_a_process_count_together() {
    let body = "(memory $second 1)
        (func (export \"run\")
          (loop $again
            (br_if $again (i32.ne (i32.const -1) (memory.grow (memory 0) (i32.const 1))))
            (br_if $again (i32.ne (i32.const -1) (memory.grow $second (i32.const 1)))))
          (call $print-number (i32.add (memory.size (memory 0)) (memory.size $second))))";
    let body = body.replace("(memory 0)", "0");
    Atoll::run(guest(&body))
        .options(["--max-memory", "1MiB"])
        .outcome()
        .code(0)
        .stdout("16\n");
}

#[test]
fn a_spawn_may_limit_memory() {
    // Option 4 is `max-memory`. Main tries limits on a child that reports its number of pages.
    let body = "(func (export \"child\")
          (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
          (call $print-number (memory.size)))
        (func $try (param $bytes i64)
          (local $error i32)
          (i64.store (i32.const 1024) (i64.const 4))
          (i64.store (i32.const 1032) (local.get $bytes))
          (local.set $error (call $try-start-with %\"child\" (i32.const 1024) (i32.const 1) (i32.const 272)))
          (if (i32.eq (local.get $error) (i32.const -1))
            (then (call $await-end (i32.const 272)))
            (else (call $print %\"error\") (call $print-number (local.get $error)))))
        (func (export \"run\")
          (call $try (i64.const 0))
          (call $try (i64.const 131071))
          (call $try (i64.const 131072))
          (call $try (i64.const 1000000))
          (call $try (i64.const -1)))";
    // no-memory is case 3; the system's limit holds as well.
    Atoll::run(guest(body))
        .options(["--max-memory", "4MiB"])
        .outcome()
        .code(0)
        .stdout("error\n3\nerror\n3\n2\n15\n64\n")
        .stderr("");
}

#[test]
fn spawns_for_ever() {
    // Main spawns until the spawn fails with too-many-processes (case 2). There are main, the neighbour and 98 others, all of
    // them alive. When main has told them to end, there is room again.
    let body = "(func (export \"child\") (drop (call $take-any)))
        (func (export \"run\")
          (local $count i32) (local $slot i32) (local $error i32)
          (call $start %\"neighbour\" (i32.const 256))
          (local.set $slot (i32.const 0x10000))
          (loop $again
            (local.set $error (call $try-start %\"child\" (local.get $slot)))
            (if (i32.eq (local.get $error) (i32.const -1))
              (then
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
                (br $again))))
          (call $print-number (local.get $count))
          (call $print-number (local.get $error))
          (call $print-number (call $try-start %\"child\" (i32.const 272)))
          (call $print-number (call $ask (i32.const 256)))
          (loop $end
            (local.set $slot (i32.sub (local.get $slot) (i32.const 16)))
            (call $must (call $is-alive (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))
            (call $post (local.get $slot) (i32.const 1))
            (call $await-end (local.get $slot))
            (br_if $end (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
          (call $start %\"child\" (i32.const 272))
          (call $print-number (call $ask (i32.const 256))))";
    Atoll::run(guest(body))
        .options(["--max-processes", "100"])
        .outcome()
        .code(0)
        .stdout("98\n2\n2\n1\n2\n")
        .stderr("");
}

#[test]
fn processes_that_spawn_processes_for_ever() {
    // Each process spawns as many as it can, and each of those does the same. Meanwhile the test keeps calling the neighbour.
    // At the end main kills them if they spawn faster than it can tell them to end.
    let body = "(func (export \"child\")
          (loop $again
            (call $self (i32.const 16))
            (drop (call $try-start %\"child\" (i32.const 272)))
            (br $again)))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"neighbour\" (i32.const 256))
          (call $start %\"child\" (i32.const 272))
          (loop $again
            (local.set $count (call $ask (i32.const 256)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 50))))
          (call $print-number (local.get $count)))";
    let outcome = Atoll::run(guest(body))
        .options(["--max-processes", "200", "--grace", "100ms"])
        .outcome()
        .code(0)
        .stdout("50\n");
    let killed = " processes did not end in time and were killed\n";
    assert!(
        outcome.stderr.is_empty()
            || outcome.stderr.starts_with("atoll: ") && outcome.stderr.ends_with(killed),
        "{outcome}"
    );
}

#[test]
fn one_process_is_as_many_as_there_may_be() {
    Atoll::run(guest(
        "(func (export \"run\") (call $print-number (call $try-start %\"run\" (i32.const 272))))",
    ))
    .options(["--max-processes", "1"])
    .outcome()
    .code(0)
    .stdout("2\n");
}

#[test]
fn floods_its_own_mailbox() {
    check_with(
        &Guest::default(),
        &["--max-mailbox", "1MiB"],
        &[
            Offender {
                name: "empty-messages",
                body: "(call $self (i32.const 16))
                       (loop $again (call $post (i32.const 16) (i32.const 1)) (br $again))",
                reason: "exhausted: mailbox",
            },
            Offender {
                name: "large-messages",
                body: "(call $self (i32.const 16))
                       (loop $again
                         (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 65536))
                         (br $again))",
                reason: "exhausted: mailbox",
            },
        ],
    );
}

#[test]
fn floods_the_mailbox_of_another() {
    // The receiver ends, as documented, and the sender and the neighbour do not. Later messages are lost.
    let body = "(func (export \"receiver\")
          (loop $again (drop (call $poll (i32.const 1000000))) (call $yield-now) (br $again)))
        (func (export \"run\")
          (call $start %\"neighbour\" (i32.const 256))
          (call $start %\"receiver\" (i32.const 272))
          (loop $again
            (call $post-bytes (i32.const 272) (i32.const 1) (i32.const 0) (i32.const 100000))
            (br_if $again (call $is-alive (i64.load (i32.const 272)) (i64.load (i32.const 280)))))
          (call $post-bytes (i32.const 272) (i32.const 1) (i32.const 0) (i32.const 100000))
          (call $print-number (call $ask (i32.const 256))))";
    Atoll::run(guest(body))
        .options(["--max-mailbox", "4MiB"])
        .outcome()
        .code(0)
        .stdout("1\n")
        .crash("receiver", "exhausted: mailbox");
    // With the default limit.
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .crash("receiver", "exhausted: mailbox");
}

#[test]
fn a_mailbox_counts_waiting_messages_and_frees_received_ones() {
    // 64 KiB twice fit into 160 KiB, three times don't. A received message leaves room.
    let body = "(func (export \"run\")
          (local $count i32)
          (call $self (i32.const 16))
          (loop $again
            (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 65536))
            (call $post-bytes (i32.const 16) (i32.const 2) (i32.const 0) (i32.const 65536))
            (call $take (i32.const 2))
            (call $take (i32.const 1))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 100))))
          (call $print-number (local.get $count))
          (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 65536))
          (call $post-bytes (i32.const 16) (i32.const 2) (i32.const 0) (i32.const 65536))
          (call $post-bytes (i32.const 16) (i32.const 3) (i32.const 0) (i32.const 65536))
          (call $take (i32.const 3))
          (call $print %\"it does not come to this\"))";
    Atoll::run(guest(body))
        .options(["--max-mailbox", "160KiB"])
        .outcome()
        .code(138)
        .stdout("100\n")
        .crash("run", "exhausted: mailbox");
}

#[test]
fn a_spawn_may_limit_a_mailbox() {
    // Option 5 is `max-mailbox`.
    let body = "(func (export \"receiver\") (call $take (i32.const 9)))
        (func (export \"run\")
          (call $start %\"neighbour\" (i32.const 256))
          (i64.store (i32.const 1024) (i64.const 5))
          (i64.store (i32.const 1032) (i64.const 50000))
          (call $must (i32.eq (i32.const -1)
            (call $try-start-with %\"receiver\" (i32.const 1024) (i32.const 1) (i32.const 272))))
          (call $post-bytes (i32.const 272) (i32.const 1) (i32.const 0) (i32.const 40000))
          (call $must (call $is-alive (i64.load (i32.const 272)) (i64.load (i32.const 280))))
          (call $post-bytes (i32.const 272) (i32.const 1) (i32.const 0) (i32.const 40000))
          (call $await-end (i32.const 272))
          (call $print-number (call $ask (i32.const 256))))";
    Atoll::run(guest(body))
        .outcome()
        .code(0)
        .stdout("1\n")
        .crash("receiver", "exhausted: mailbox");
}

#[test]
fn sends_a_gibibyte() {
    let offender = Offender {
        name: "sender",
        body: "(call $must (i32.ne (i32.const -1) (memory.grow (i32.const 16384))))
               (call $self (i32.const 16))
               (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0x10000) (i32.const 0x40000000))",
        reason: "exhausted: message",
    };
    check_with(&Guest::default(), &["--max-memory", "2GiB"], &[offender]);
}

#[test]
fn the_limit_of_a_message_is_exact() {
    let options = ["--max-message", "1000"];
    let send = |bytes: u32| {
        format!(
            "(call $self (i32.const 16))
             (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const {bytes}))
             (call $take (i32.const 1))"
        )
    };
    let run = format!(
        "(func (export \"run\") {} (call $print-number (i32.load (i32.const 168))))",
        send(1000)
    );
    Atoll::run(guest(&run))
        .options(options)
        .outcome()
        .code(0)
        .stdout("1000\n");
    check_with(
        &Guest::default(),
        &options,
        &[
            Offender {
                name: "sender",
                body: &send(1001),
                reason: "exhausted: message",
            },
            Offender {
                name: "one-who-exits",
                body: "(call $exit (i32.const 10) (i32.const 0) (i32.const 1001))",
                reason: "exhausted: message",
            },
        ],
    );
    // The spawn of a process with a large argument fails: argument-too-large is case 4.
    let spawn = |bytes: u32| {
        format!(
            "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"neighbour\"
               (i32.const 0) (i32.const {bytes}) (i32.const 0) (i32.const 0) (i32.const 64))
             (call $print-number (call $spawned (i32.const 272)))"
        )
    };
    let run = format!("(func (export \"run\") {} {})", spawn(1001), spawn(1000));
    Atoll::run(guest(&run))
        .options(options)
        .outcome()
        .code(0)
        .stdout("4\n4294967295\n");
}

#[test]
fn recurses_without_end() {
    check(&[
        Offender {
            name: "plain",
            body: "(call $the-plain)",
            reason: "trap: wasm trap: call stack exhausted",
        },
        Offender {
            name: "with-host-calls",
            body: "(call $yield-now) (call $the-with-host-calls)",
            reason: "trap: wasm trap: call stack exhausted",
        },
    ]);
}

#[test]
fn host_calls_at_the_end_of_the_stack() {
    // Recurses until little stack is left, and calls each function there: the function has room, or the guest traps.
    let calls = [
        ("own-pid", "(call $self (i32.const 16))"),
        ("argument", "(call $argument (i32.const 176))"),
        ("receive", "(drop (call $poll (i32.const 1)))"),
        ("reference", "(call $make-reference (i32.const 192))"),
        (
            "spawn",
            "(drop (call $try-start %\"nobody\" (i32.const 272)))",
        ),
        ("send", "(call $post (i32.const 272) (i32.const 1))"),
    ];
    let bodies = calls.map(|(name, call)| format!("{call} (call $the-{name})"));
    let offenders: Vec<Offender<'_>> = calls
        .iter()
        .zip(&bodies)
        .map(|((name, _), body)| Offender {
            name,
            body,
            reason: "trap: wasm trap: call stack exhausted",
        })
        .collect();
    check(&offenders);
    let write = "(drop (call $fd_write (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0)))";
    Atoll::run(guest(&format!(
        "(func $deeper (export \"run\") {write} (call $deeper))"
    )))
    .outcome()
    .code(134)
    .crash("run", "trap: wasm trap: call stack exhausted");
}

#[test]
fn thirty_two_options_are_not_too_many() {
    let body = "(local $at i32)
        (local.set $at (i32.const 1024))
        (loop $next
          (i64.store (local.get $at) (i64.const 4))
          (i64.store offset=8 (local.get $at) (i64.const 1000000))
          (local.set $at (i32.add (local.get $at) (i32.const 24)))
          (br_if $next (i32.lt_u (local.get $at) (i32.const 1792))))
        (call $print-number (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 32) (i32.const 256)))
        (call $print-number (call $ask (i32.const 256)))";
    prints(body, "4294967295\n1\n");
}

#[test]
fn many_handles() {
    // Opens the granted directory's file again and again, and never closes it.
    let pieces = Guest {
        imports: "(import \"wasi_snapshot_preview1\" \"path_open\"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))",
        body: "(func (export \"hoarder\")
              (local $error i32)
              (loop $again
                (br_if $again (i32.eqz (local.tee $error
                  (call $path_open (i32.const 3) (i32.const 0) %\"file\" (i32.const 0)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 1024))))))
              ;; The error for too many open files.
              (call $must (i32.eq (local.get $error) (i32.const 33)))
              (call $print %\"refused\"))
            (func (export \"run\")
              (call $start %\"neighbour\" (i32.const 256))
              (call $start %\"hoarder\" (i32.const 272))
              (call $await-end (i32.const 272))
              (call $start %\"hoarder\" (i32.const 272))
              (call $await-end (i32.const 272))
              (call $print-number (call $ask (i32.const 256))))",
        ..Guest::default()
    };
    for limit in ["10", "512"] {
        let atoll = Atoll::run(pieces.text());
        let folder = atoll.folder().to_owned();
        std::fs::write(folder.join("file"), "text").expect("the folder is there");
        atoll
            .options(["--max-handles", limit, "--dir"])
            .option(format!("{}::/data", folder.display()))
            .outcome()
            .code(0)
            .stdout("refused\nrefused\n1\n")
            .stderr("");
    }
}

#[test]
fn unfinished_lines_of_many_processes() {
    // Each process leaves an unfinished line. Atoll prints each on a line of its own.
    let body = "(func (export \"child\")
          (call $must (i32.eqz (call $write %\"unfinished\"))))
        (func (export \"run\")
          (local $count i32)
          (loop $again
            (call $start %\"child\" (i32.const 272))
            (call $await-end (i32.const 272))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 500)))))";
    let outcome = Atoll::run(guest(body)).outcome().code(0).stderr("");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(
        lines.len() == 500 && lines.iter().all(|line| *line == "unfinished"),
        "not 500 lines\n{outcome}"
    );
}

#[test]
fn a_failed_instance_is_no_process() {
    let cases = [
        ("(table 2000000 funcref)", "exceeds table limits"),
        ("(table 4000000000 funcref)", "exceeds table limits"),
        (
            "(data (i32.const 0x20000) \"x\")",
            "out of bounds memory access",
        ),
        (
            "(table $t 1 funcref) (elem (table $t) (i32.const 5) func $must)",
            "out of bounds table access",
        ),
        (&"(memory 0)".repeat(70), "memory count too high"),
    ];
    for (declaration, text) in cases {
        let bad = bare_guest(&format!("{declaration} (func (export \"run\"))"));
        Atoll::run(&bad)
            .outcome()
            .code(1)
            .stdout("")
            .stderr_has("main.wat` can't be started: the program can't be instantiated: ")
            .stderr_has(text);
        // The error's case is `other`, with a text. The process that spawned goes on, and so does its neighbour.
        let main = guest(
            "(func (export \"run\")
               (call $start %\"neighbour\" (i32.const 256))
               (call $print-number
                 (call $try-start-in %\"bad\" (i32.const 0) (i32.const 0) (i32.const 272)))
               (call $must (i32.gt_u (i32.load (i32.const 80)) (i32.const 10)))
               (call $print-number (call $ask (i32.const 256))))",
        );
        Atoll::run(main)
            .program("bad", &bad)
            .outcome()
            .code(0)
            .stdout("8\n1\n")
            .stderr("");
    }
}

#[test]
fn failed_spawns_use_nothing_up() {
    // Many times as many spawns as there may be processes. They fail in different ways.
    let bad = bare_guest("(table 2000000 funcref) (func (export \"run\"))");
    let body = "(func (export \"run\")
          (local $count i32)
          (i64.store (i32.const 1024) (i64.const 4))
          (i64.store (i32.const 1032) (i64.const 65536))
          (loop $again
            (call $must (i32.eq (i32.const 8)
              (call $try-start-in %\"bad\" (i32.const 0) (i32.const 0) (i32.const 272))))
            (call $must (i32.eq (i32.const 1) (call $try-start %\"nobody\" (i32.const 272))))
            (call $must (i32.eq (i32.const 3)
              (call $try-start-with %\"neighbour\" (i32.const 1024) (i32.const 1) (i32.const 272))))
            (br_if $again (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
          (call $start %\"neighbour\" (i32.const 256))
          (call $print-number (call $ask (i32.const 256))))";
    Atoll::run(guest(body))
        .program("bad", bad)
        .options(["--max-processes", "2"])
        .outcome()
        .code(0)
        .stdout("1\n")
        .stderr("");
}
