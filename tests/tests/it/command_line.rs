//! Options, and the errors for wrong ones.

use atoll_tests::{Atoll, built_guest, guest};

#[test]
fn wrong_usage_exits_with_2() {
    for (words, stderr) in [
        (&[][..], "Usage: atoll"),
        (
            &["run"],
            "the following required arguments were not provided",
        ),
        (
            &["inspect"],
            "the following required arguments were not provided",
        ),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (
            &["run", "--frobnicate", "x.wasm"],
            "unexpected argument '--frobnicate'",
        ),
        (
            &["run", "--schedulers", "x", "x.wasm"],
            "invalid value 'x' for '--schedulers <N>'",
        ),
        (
            &["run", "--schedulers", "-1", "x.wasm"],
            "unexpected argument '-1'",
        ),
        (
            &["run", "--reductions", "99999999999", "x.wasm"],
            "invalid value '99999999999'",
        ),
        (
            &["run", "--max-memory", "1TB", "x.wasm"],
            "`TB` is no unit; use KiB, MiB or GiB",
        ),
        (
            &["run", "--max-memory", "much", "x.wasm"],
            "`much` is no unit",
        ),
        (
            &["run", "--max-memory", "", "x.wasm"],
            "write it as a number with a unit",
        ),
        (
            &["run", "--max-memory", "99999999999GiB", "x.wasm"],
            "that is more than any machine has",
        ),
        (
            &["run", "--program", "name", "x.wasm"],
            "write it as NAME=PATH",
        ),
        (
            &["run", "--program", "=path", "x.wasm"],
            "write it as NAME=PATH",
        ),
        (
            &["run", "--dir", "::", "x.wasm"],
            "`::` does not name a directory",
        ),
        (
            &["run", "--env", "=value", "x.wasm"],
            "`=value` does not name an environment variable",
        ),
        (
            &["run", "--env", "UNSET", "x.wasm"],
            "the environment variable `UNSET` is not set",
        ),
        (
            &["run", "--allow-net=localhost", "x.wasm"],
            "`localhost` is not a network address",
        ),
        (
            &["run", "--allow-net=1.2.3.4:0", "x.wasm"],
            "`1.2.3.4:0` grants port 0",
        ),
        (
            &["inspect", "x.wasm", "y.wasm"],
            "unexpected argument 'y.wasm'",
        ),
    ] {
        Atoll::words(words.iter().copied())
            .outcome()
            .code(2)
            .stdout("")
            .stderr_has(stderr);
    }
}

#[test]
fn help_and_version() {
    for (words, stdout) in [
        (&["--help"][..], "Usage: atoll"),
        (&["-h"], "Usage: atoll"),
        (&["help"], "Usage: atoll"),
        (&["run", "--help"], "Exit codes:"),
        (&["inspect", "--help"], "Usage: atoll inspect"),
        (&["--version"], "atoll "),
        (&["-V"], "atoll "),
    ] {
        let outcome = Atoll::words(words.iter().copied())
            .outcome()
            .code(0)
            .stderr("");
        assert!(outcome.stdout.contains(stdout), "{outcome}");
        assert!(
            !outcome.stdout.contains('\u{1b}'),
            "colour without a terminal\n{outcome}"
        );
    }
}

#[test]
fn settings_that_make_no_sense() {
    for (option, value, error) in [
        ("--schedulers", "0", "schedulers must lie between 1 and "),
        (
            "--schedulers",
            "100000",
            "schedulers must lie between 1 and ",
        ),
        ("--reductions", "0", "reductions must lie between 1 and "),
        (
            "--max-processes",
            "0",
            "max-processes must lie between 1 and ",
        ),
        (
            "--max-processes",
            "99999999",
            "max-processes must lie between 1 and ",
        ),
        ("--max-stack", "1KiB", "max-stack must lie between "),
        ("--max-stack", "1GiB", "max-stack must lie between "),
        ("--max-memory", "5GiB", "max-memory must lie between 0 and "),
        (
            "--max-message",
            "4GiB",
            "max-message must lie between 0 and ",
        ),
    ] {
        let outcome = Atoll::run(guest("(func (export \"run\") (call $print %\"runs\"))"))
            .options([option, value])
            .outcome()
            .code(1)
            .stdout("")
            .stderr_has(error);
        assert!(outcome.stderr.starts_with("error: "), "{outcome}");
    }
}

#[test]
fn grants_that_can_not_be_made_say_what_to_do() {
    let file = built_guest("counter-wat.wat");
    let file = file.to_str().expect("the path is text");
    for (dir, error, hint) in [
        (
            "/no/such::/data",
            "`/no/such` does not exist",
            "make it, or grant another one",
        ),
        (
            &format!("{file}::/data"),
            "is not a directory",
            "grant the directory that it is in",
        ),
    ] {
        Atoll::run(guest("(func (export \"run\"))"))
            .options(["--dir", dir])
            .outcome()
            .code(1)
            .stderr_has(error)
            .stderr_has(&format!("\n  hint: {hint}"));
    }
    Atoll::run(guest("(func (export \"run\"))"))
        .options(["--dir", "/::/data:ro", "--dir", "/tmp::/data"])
        .outcome()
        .code(1)
        .stderr_has("two directories are granted as `/data`")
        .stderr_has("\n  hint: give each a name of its own");
}

#[test]
fn nobody_may_write_where_compiled_code_is_kept_or_to_the_hosts_own_memory() {
    let home = tempfile::tempdir().unwrap();
    let path = |below: &str| home.path().join(below).display().to_string();
    std::fs::create_dir(home.path().join("apart")).unwrap();
    let run = |grant: &str| {
        Atoll::run(guest("(func (export \"run\"))"))
            .env("XDG_CACHE_HOME", path("cache"))
            .options(["--dir", grant])
            .outcome()
    };
    // Where the cache would be counts as well.
    run(home.path().to_str().unwrap()).code(1);
    std::fs::create_dir_all(home.path().join("cache/atoll")).unwrap();
    run(&path("apart")).code(0);
    for grant in ["", "cache", "cache/atoll", "apart/.."].map(path) {
        let refused = run(&grant);
        refused.code(1).stderr_has("can't be granted for writing");
    }
    run("/proc/self").code(1).stderr_has("could change `/proc`");
    run("/").code(1).stderr_has("add `:ro`");
    run(&format!("{}:ro", path("cache"))).code(0);
}

#[test]
fn words_behind_the_file_are_the_guests() {
    let words = [
        "--stats",
        "-q",
        "--",
        "--help",
        "",
        "-",
        "a b",
        "ünïcödé",
        "--max-memory=x",
    ];
    let mut atoll = Atoll::run_file(built_guest("echo.wasm"));
    for word in words {
        atoll = atoll.arg(word);
    }
    let expected: String = words.map(|word| format!("{word}\n")).concat();
    atoll.outcome().code(0).stdout(&expected).stderr("");
}

#[test]
fn options_may_stand_before_the_file_after_two_dashes() {
    let file = built_guest("echo.wasm");
    Atoll::words(["run", "--no-cache", "--stats", "--"])
        .arg(file)
        .arg("--x")
        .outcome()
        .code(0)
        .stdout("--x\n")
        .stderr_has("stats: ");
}

#[test]
fn verbosity_goes_to_standard_error() {
    for option in ["-v", "-vv", "-vvv"] {
        Atoll::run(guest("(func (export \"run\") (call $print %\"out\"))"))
            .options([option])
            .outcome()
            .code(0)
            .stdout("out\n");
    }
}

#[test]
fn sizes_have_units() {
    let body = "(func (export \"run\")
          (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
          (call $print-number (memory.size)))";
    for (size, pages) in [
        ("1048576", 16),
        ("1048576B", 16),
        ("1024K", 16),
        ("1024KiB", 16),
        ("1M", 16),
        ("1MiB", 16),
        ("1048575", 15),
    ] {
        Atoll::run(guest(body))
            .options(["--max-memory", size])
            .outcome()
            .code(0)
            .stdout(&format!("{pages}\n"));
    }
}

#[test]
fn a_larger_stack_is_deeper() {
    let body = "(global $depth (mut i32) (i32.const 0))
        (func $deeper (param $left i32)
          (if (local.get $left) (then (call $deeper (i32.sub (local.get $left) (i32.const 1)))))
          (global.set $depth (i32.add (global.get $depth) (i32.const 1))))
        (func (export \"run\") (call $deeper (i32.const 20000)) (call $print-number (global.get $depth)))";
    Atoll::run(guest(body))
        .options(["--max-stack", "32KiB"])
        .outcome()
        .code(134)
        .crash("run", "trap: wasm trap: call stack exhausted");
    for stack in ["4MiB", "64MiB"] {
        Atoll::run(guest(body))
            .options(["--max-stack", stack])
            .outcome()
            .code(0)
            .stdout("20001\n");
    }
}

#[test]
fn many_schedulers() {
    for schedulers in ["1", "2", "16", "64"] {
        Atoll::run_file(built_guest("counter-wat.wat"))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("count is 3\n")
            .stderr("");
    }
}
