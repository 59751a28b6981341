//! Trees: limits and rights of a process and of all that it spawns.

use atoll_tests::{Atoll, Guest, built_guest};
use std::fs;
use std::path::Path;

/// All that the guest `trees` finds, but for what another program prints meanwhile.
const FOUND: &str = "\
memory:
  one process of 64 pages grows by: 62
  three processes of a tree grow by less than its memory: true
  and by most of it: true
processes:
  a tree of four spawns: 3
  then: can't spawn a process: the system holds as many as it may
  after one has ended: spawned
  outside of it: spawned
reductions:
  a tree that computes for ever: exhausted: reductions
  its root, when a child computes for ever: exhausted: reductions
  is it alive: false
rate:
  a process with a rate goes on: true
  and uses less than a third of another: true
  its tree has a rate of: 50
  is it there: true
  a crowd with a rate goes on: true
  and uses less than a third of another: true
  is it there: true
mailbox:
  reject: delivered delivered delivered full full
    a call finds it full: true
    dropped: 3
    kept: 0 1 2
    its end: normal
  drop-newest: delivered delivered delivered full full
    a call finds it full: true
    dropped: 3
    kept: 0 1 2
    its end: normal
  drop-oldest: delivered delivered delivered delivered delivered
    a call finds it full: false
    dropped: 3
    kept: 3 4 9
    its end: normal
  end: exhausted: mailbox
  afterwards: noproc
  a mailbox is bounded by its tree's memory: true
  is it there: true
output:
  ten bytes
  ten bytes
  a printer with 30 bytes: normal
ends:
  the root of a tree: normal
  its descendants are alive: true
  the tree is ended: true
  a descendant: killed
  a descendant: killed
  once more: false
  a process that is no root: false
  a process that ends its own tree: killed
  trees within one another: 16, then: can't spawn a process: there are too many trees within one another
interfaces:
  names: can't spawn a process: `names` is not granted
  signals: can't spawn a process: `signals` is not granted
  spawning: can't spawn a process: `spawning` is not granted
  files: spawned
  network: spawned
  a wrong address is refused: true
strangers:
  kills the parent: no
  registers the parent: can't register a name: there is no such process
  takes its name: no
  makes it join a group: can't join a group: there is no such process
  links with it: no such process
  ends its own child: yes
  ends the tree around: no
  sends it a message: a message
  asks it: 8
  its end: normal
  the parent has its name: true
names:
  it sees the names: []
  it sees the groups: []
  it is: the boss: true, the parent: Err(can't register a name: there is no such process)
  for the parent the boss is the parent: true
  and the only one: 1
  its end: normal
  another one with the name: spawned
  one without names of its own: can't spawn a process: another process has the name
programs:
  hello: spawned
  counter: can't spawn a process: `counter` is not granted
  nobody: can't spawn a process: `nobody` is not granted
  its own: spawned
";

#[test]
fn each_limit_and_each_right_holds() {
    let program = |name: &str| format!("{name}={}", built_guest(&format!("{name}.wasm")).display());
    let outcome = Atoll::run_file(built_guest("trees.wasm"))
        .options(["--allow-inspect", "--quiet", "--stats"])
        .options(["--program", &program("hello"), "--program", &program("counter")])
        .outcome()
        .code(0)
        .stderr_has(
            "held: 0 slots, 0 names, 0 groups, 0 links, 0 monitors, 0 aliases, 0 timers, 0 WASI contexts",
        );
    let lines = outcome
        .stdout
        .lines()
        .filter(|line| *line != "hello, world");
    let found: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(found, FOUND, "{outcome}");
}

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
"#;

/// Prints the directories that it sees, and the number of its environment variables.
const LOOK: &str = r#"
  (func (export "run")
    (local $fd i32)
    (local.set $fd (i32.const 3))
    (block $end
      (loop $next
        (br_if $end (call $fd_prestat_get (local.get $fd) (i32.const 1024)))
        (call $must (i32.eqz
          (call $fd_prestat_dir_name (local.get $fd) (i32.const 1040) (i32.load (i32.const 1028)))))
        (call $print (i32.const 1040) (i32.load (i32.const 1028)))
        (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
        (br $next)))
    (call $must (i32.eqz (call $environ_sizes_get (i32.const 1024) (i32.const 1028))))
    (call $print-number (i32.load (i32.const 1024))))
"#;

/// A policy for one program `main.wat`, with these lines in its table.
fn run_with(lines: &str, folder: &Path) -> atoll_tests::Outcome {
    let text = Guest {
        imports: IMPORTS,
        body: LOOK,
        ..Guest::default()
    }
    .text();
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).expect("the folder can be written to");
    };
    write("main.wat", &text);
    write(
        "policy.toml",
        &format!(
            r#"
            [first]
            program = "main"
            [system]
            environment = {{ ONE = "1", TWO = "2" }}
            [[system.directories]]
            host = "one"
            guest = "/one"
            [[system.directories]]
            host = "two"
            guest = "/two"
            [programs.main]
            file = "main.wat"
            {lines}
            "#
        ),
    );
    let policy = folder.join("policy.toml");
    Atoll::words([
        "run".as_ref(),
        "--no-cache".as_ref(),
        "--policy".as_ref(),
        policy.as_os_str(),
    ])
    .outcome()
}

#[test]
fn directories_and_variables_are_passed_on_one_by_one() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for name in ["one", "two"] {
        fs::create_dir(folder.path().join(name)).expect("the folder can be written to");
    }
    for (lines, stdout) in [
        ("rights = [\"spawning\"]", "0\n"),
        ("rights = [\"spawning\", \"files\"]", "/one\n/two\n0\n"),
        (
            "rights = [\"spawning\", \"files\"]\ndirectories = [\"/two\"]",
            "/two\n0\n",
        ),
        (
            "rights = [\"spawning\", \"files\"]\ndirectories = []",
            "0\n",
        ),
        ("rights = [\"spawning\"]\ndirectories = [\"/two\"]", "0\n"),
        ("rights = [\"spawning\", \"environment\"]", "2\n"),
    ] {
        run_with(lines, folder.path()).code(0).stdout(stdout);
    }
}

#[test]
fn rights_are_withheld_by_the_command_line() {
    let supervisor = || Atoll::run_file(built_guest("supervisor.wasm"));
    supervisor()
        .options(["--without", "names", "--without", "strangers"])
        .outcome()
        .code(0);
    supervisor()
        .options(["--without", "spawning"])
        .outcome()
        .code(1)
        .stderr_has("atoll-rt:process/spawning@0.2.0");
    supervisor()
        .options(["--without", "everything"])
        .outcome()
        .code(2)
        .stderr_has("the rights are: signals, names");
}

#[test]
fn output_beyond_its_budget_is_an_error() {
    // The error is ENOSPC, 51 in WASI.
    let text = Guest {
        body: r#"
          (func (export "run")
            (call $print %"ten bytes")
            (i32.store (i32.const 32) (i32.const 512))
            (i32.store (i32.const 36) (i32.const 7))
            (call $must (i32.eq (i32.const 51)
              (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))
        "#,
        ..Guest::default()
    }
    .text();
    Atoll::run(text)
        .options(["--max-output", "15"])
        .outcome()
        .code(0)
        .stdout("ten bytes\n");
}

#[test]
fn a_system_without_reductions_ends_and_says_so() {
    let text = "(module (func (export \"run\") (loop $again (br $again))))";
    Atoll::run(text)
        .options(["--max-reductions", "50000"])
        .outcome()
        .code(138)
        .stderr_has("exhausted: reductions");
}

#[test]
fn clocks_can_be_coarse() {
    // Prints the remainders of both clocks' times and resolutions by ten milliseconds.
    let text = Guest {
        imports: r#"
          (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "clock_res_get" (func $clock_res_get (param i32 i32) (result i32)))
        "#,
        body: r#"
          (func $look (param $clock i32)
            (call $must (i32.eqz
              (call $clock_time_get (local.get $clock) (i64.const 1) (i32.const 1024))))
            (call $must (i32.eqz (call $clock_res_get (local.get $clock) (i32.const 1032))))
            (call $print-number
              (i32.wrap_i64 (i64.rem_u (i64.load (i32.const 1024)) (i64.const 10000000))))
            (call $print-number (i32.wrap_i64 (i64.load (i32.const 1032)))))
          (func (export "run") (call $look (i32.const 0)) (call $look (i32.const 1)))
        "#,
        ..Guest::default()
    }
    .text();
    Atoll::run(&text)
        .options(["--clock-resolution", "10ms"])
        .outcome()
        .code(0)
        .stdout("0\n10000000\n0\n10000000\n");
    Atoll::run(&text)
        .options(["--clock-resolution", "2s"])
        .outcome()
        .code(1)
        .stderr_has("clock-resolution must lie between 1 and 1000000000");
}
