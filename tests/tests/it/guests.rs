//! The guests of this repository, with the options of `cargo xtask run`, but smaller.

use atoll_tests::{Atoll, Outcome, built_guest};

#[track_caller]
fn run(file: &str, arguments: &[&str]) -> Outcome {
    let mut atoll = Atoll::run_file(built_guest(file));
    for argument in arguments {
        atoll = atoll.arg(*argument);
    }
    atoll.outcome()
}

/// The output with every number replaced by `N`.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    let mut number = false;
    for character in text.chars() {
        let digit = character.is_ascii_digit() || (number && character == '.');
        if digit && !number {
            result.push('N');
        } else if !digit {
            result.push(character);
        }
        number = digit;
    }
    result
}

#[test]
fn the_counter_in_three_languages() {
    for file in ["counter.wasm", "counter-c.wasm", "counter-wat.wat"] {
        run(file, &[]).code(0).stdout("count is 3\n").stderr("");
    }
}

#[test]
fn hello_of_other_toolchains() {
    run("hello.wasm", &[])
        .code(0)
        .stdout("hello, world\n")
        .stderr("");
    run("hello-c.wasm", &[])
        .code(0)
        .stdout("hello from C\n")
        .stderr("");
}

#[test]
fn echo() {
    run("echo.wasm", &[]).code(0).stdout("").stderr("");
    run(
        "echo.wasm",
        &["one", "", "two words", "ünïcödé 日本語 🦀", "last"],
    )
    .code(0)
    .stdout("one\n\ntwo words\nünïcödé 日本語 🦀\nlast\n")
    .stderr("");
}

#[test]
fn ring() {
    let outcome = run("ring.wasm", &["50", "20"]).code(0).stderr("");
    assert_eq!(
        without_numbers(&outcome.stdout),
        "N processes, N hops, N ns a hop\n"
    );
    assert!(outcome.stdout.starts_with("50 processes, 1020 hops, "));
    run("ring.wasm", &["x"])
        .code(1)
        .stdout("")
        .stderr_has("atoll: main ended: \"argument 1, `x`: invalid digit found in string\"");
}

#[test]
fn ping_pong() {
    for (rounds, bytes) in [("100", "16"), ("10", "100000"), ("1", "0")] {
        let outcome = run("ping-pong.wasm", &[rounds, bytes]).code(0).stderr("");
        assert!(
            outcome
                .stdout
                .starts_with(&format!("{rounds} round trips of {bytes} bytes, ")),
            "{outcome}"
        );
    }
}

#[test]
fn a_million_in_small() {
    let outcome = Atoll::run_file(built_guest("million.wasm"))
        .options(["--dir", "/proc/self::/proc/self:ro", "--stats"])
        .arg("2500")
        .outcome()
        .code(0);
    let resident = "N resident bytes per process (N in pages, N in page tables)\n";
    let woken = "million: all woken (round N), every answer is right, N s, N us each\n";
    assert_eq!(
        without_numbers(&outcome.stdout),
        format!(
            "million: N processes sleep, N s, N us each\nasleep: {resident}{woken}{woken}asleep again: {resident}\
             million: all have ended, N s, N us each\nthe host held N MiB at most\n"
        )
    );
    assert!(outcome.stdout.starts_with("million: 2500 processes sleep"));
    // Each process in each wait, and the host gets back its resources.
    outcome.stderr_has("times (deep), 0 times without the memory, 0 now with 0 bytes in all");
    // Without the grant the guest names the missing grant.
    run("million.wasm", &["1000"])
        .code(1)
        .stdout("")
        .stderr_has("granted by --dir");
}

#[test]
fn a_storm_of_three_hundred() {
    let hibernating: &[&str] = &["--hibernate-after", "0"];
    let poisoning: &[&str] = &["--hibernate-after", "0", "--poison"];
    for (schedulers, options) in [
        ("1", &[][..]),
        ("3", &[]),
        ("1", hibernating),
        ("3", hibernating),
        ("1", poisoning),
        ("3", poisoning),
    ] {
        let outcome = Atoll::run_file(built_guest("storm.wasm"))
            .options(options.iter().copied())
            .options(["--schedulers", schedulers, "--allow-inspect", "--quiet"])
            .options(["--dir", "/proc/self::/proc/self:ro"])
            .arg("4")
            .arg("300")
            .outcome()
            .code(0)
            .stderr("");
        let told = "storm: 4 rounds of 300: every exit and every down arrived once\n";
        assert!(outcome.stdout.contains(told), "\n{outcome}");
    }
}

#[test]
fn spinner() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/rust/spinner");
    let outcome = Atoll::run_file(built_guest("spinner.wasm"))
        .option("--dir")
        .option(format!("{folder}::/spinner:ro"))
        .arg("2")
        .arg("1")
        .outcome()
        .code(0)
        .stderr("");
    assert_eq!(
        without_numbers(&outcome.stdout),
        "beside N busy loops, for N s:
  a pair talking: N round trips per second, worst N µs
  a N ms timer: late by N µs (median), worst N µs
  a file read: N µs (median), worst N µs
"
    );
}

#[test]
fn crasher_dies_in_every_way_and_its_neighbour_stays() {
    let outcome = run("crasher.wasm", &[]).code(0);
    assert!(
        outcome
            .stdout
            .ends_with("neighbour: still here after 8 crashes\n"),
        "{outcome}"
    );
    let mut crashes: Vec<_> = outcome
        .crashes()
        .into_iter()
        .map(|crash| (crash.label.unwrap_or_default(), crash.reason))
        .collect();
    let unreachable = "trap: wasm trap: wasm `unreachable` instruction executed";
    let mut expected = [
        ("panic", unreachable),
        ("unreachable", unreachable),
        ("divide", unreachable),
        (
            "out-of-bounds",
            "trap: wasm trap: out of bounds memory access",
        ),
        ("stack", "trap: wasm trap: call stack exhausted"),
        ("memory", unreachable),
        ("mailbox", "exhausted: mailbox"),
    ]
    .map(|(label, reason)| (format!("{label:?}"), reason.to_owned()));
    // Each scheduler writes the report of the processes that end on it, so the order is open.
    crashes.sort();
    expected.sort();
    assert_eq!(crashes, expected, "\n{outcome}");
}

#[test]
fn crasher_as_main() {
    for (way, code) in [
        ("panic", 134),
        ("unreachable", 134),
        ("divide", 134),
        ("out-of-bounds", 134),
        ("stack", 134),
        ("mailbox", 138),
        ("exit", 1),
        ("nonsense", 1),
    ] {
        run("crasher.wasm", &[way]).code(code);
    }
}

#[test]
fn a_panic_says_where() {
    run("crasher.wasm", &["panic"])
        .code(134)
        .stderr_has("panicked at ")
        .stderr_has("\non purpose\ncrash: process ")
        .stderr_has(": crasher::panic\n");
}

#[test]
fn links() {
    let outcome = run("links.wasm", &[]).code(0).stdout(
        "linked processes end:
  normal
  shutdown
  shutdown: for today
  kill
  tired
  a crash is a trap: true
  through another one: tired
exit signals to a process that waits:
  normal: it is alive: true
  shutdown: shutdown
  kill: killed
exit signals to a process that traps exits:
  shutdown: it received shutdown
  kill: killed
no link:
  with one that has ended: no such process
  with one that ended when it was unlinked: told of it: false
",
    );
    assert_eq!(outcome.crashes().len(), 1, "\n{outcome}");
}

#[test]
fn monitors() {
    run("monitors.wasm", &[]).code(0).stderr("").stdout(
        "monitors:
  tired process, by its pid: true: tired
  the same once more: no such process
  clerk, by its name: shutdown
  ended early: true
  ended late: false
  what had arrived is there: true
  ended late, and flushed: false
  what had arrived is there: false
calls:
  of nobody: there is no such process
  of a busy process: no answer came in time
  of one that ends: the process ended before it answered: closed
  the late answer has arrived: false
",
    );
}

#[test]
fn names() {
    run("names.wasm", &[]).code(0).stderr("").stdout(
        "names:
  registered: echo, main
  echo is found: true
  sent by name: true
  answered: hello
  called by name: hello again
  `echo`: can't register a name: another process has it
  `other`: can't register a name: the process has one already
  ``: can't register a name: it is empty, or longer than 255 bytes
  can't spawn a process: another process has the name
  taken away: true
  registered: []
  sent to nobody: false
groups:
  members at first: 0
  alto: true: joined
  bass: true: joined
  groups: choir
  members: 2
  alto leaves: true
  alto: true: left
  alto leaves: false
  bass: true: left
  members: 0
  monitor ended: true
  can't join a group: there is no such process
",
    );
}

#[test]
fn timers() {
    run("timers.wasm", &[]).code(0).stderr("").stdout(
        "a message: wake up
it came too early: false
to a name: the listener heard of dinner
a signal: tag 4
of this timer: true
left of it: None
nearly all is left: true
so it was when cancelled: true
once more: None
its signal: false
a message, if one comes in time: false
",
    );
}

#[test]
fn supervisor() {
    let outcome = run("supervisor.wasm", &[]).code(0).stdout(
        "ada has started
joe has started
mike has started
12 / 3 is 4
joe has crashed: true
joe has started
12 / 4 is 3
mike has ended: killed
joe has ended: shutdown
ada has ended: shutdown
the supervisor has ended: shutdown
",
    );
    assert_eq!(outcome.crashes().len(), 1, "\n{outcome}");
}

#[test]
fn requests() {
    run("requests.wasm", &[]).code(0).stderr("").stdout(
        "1 squared: Some(1)
2 squared: Some(4)
3 squared: Some(9)
the first is not wanted any more: true
answered: second
the first has an answer: false
",
    );
}

#[test]
fn priorities() {
    Atoll::run_file(built_guest("priorities.wasm"))
        .options(["--schedulers", "1"])
        .outcome()
        .code(0)
        .stderr("")
        .stdout(
            "at first: normal
the high one is done first: true
the low one gets its turns: true
",
        );
}

#[test]
fn inspect() {
    Atoll::run_file(built_guest("inspect.wasm"))
        .options(["--allow-inspect", "--allow-debug"])
        .outcome()
        .code(0)
        .stderr("")
        .stdout(
            "main:
  status: running, priority: normal
  program: inspect, name: Some(\"main\")
  links: 1, monitors: 1
  traps exits: false, hibernates: true
busy:
  label: Some(\"busy\"), spawned by main: true
  linked to main: true, monitored by main: true
  it makes progress
  suspended: true
  it is suspended: true
  reductions meanwhile: 0
  resumed: true
  it makes progress
  resumed once more: false
all:
  main suspends itself: false
  both are listed: true
  spawned: 2, crashed: 0
  names: 1
",
        );
    // Without the grants the host does not load it.
    run("inspect.wasm", &[])
        .code(1)
        .stdout("")
        .stderr_has("--allow-inspect");
}

#[test]
fn programs_of_different_languages_talk() {
    // By name, from a guest in WAT: the entry of each program is a process that prints.
    let main = atoll_tests::guest(
        "(func $run-to-its-end (param $name i32) (param $bytes i32)
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in (local.get $name) (local.get $bytes) (i32.const 0) (i32.const 0) (i32.const 256))))
           (call $await-end (i32.const 256)))
         (func (export \"run\")
           (call $run-to-its-end %\"c\")
           (call $run-to-its-end %\"rust\")
           (call $run-to-its-end %\"hello\"))",
    );
    let named = |name: &str, file: &str| format!("{name}={}", built_guest(file).display());
    Atoll::run(main)
        .options(["--program", &named("c", "counter-c.wasm")])
        .options(["--program", &named("rust", "counter.wasm")])
        .options(["--program", &named("hello", "hello.wasm")])
        .outcome()
        .code(0)
        .stdout("count is 3\ncount is 3\nhello, world\n")
        .stderr("");
}
