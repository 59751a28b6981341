//! Components: those that only wrap a module for the contract, and those that run as components.

use crate::wrap::{Component, PROCESS_WORLD, printing_module};
use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES, bare_guest, guest, tied_guest};
use wasmparser::{Validator, WasmFeatures};

#[track_caller]
fn prints(functions: &str, body: &str, stdout: &str) {
    let component = Component::printing(functions, body);
    Atoll::run(component)
        .outcome()
        .code(0)
        .stdout(stdout)
        .stderr("");
}

#[test]
fn a_wrapped_module_runs_as_the_module_would() {
    let body = "(func (export \"run\")
          (call $start %\"neighbour\" (i32.const 256))
          (call $must (i32.eq (call $ask (i32.const 256)) (i32.const 1)))
          (call $exit (i32.const 10) %\"all well\"))";
    let component = Component {
        world: PROCESS_WORLD,
        module: &bare_guest(body),
    };
    for guest in [component.bytes(), bare_guest(body).into_bytes()] {
        Atoll::run(guest)
            .outcome()
            .code(1)
            .stderr("atoll: main ended: \"all well\"\n");
    }
}

#[test]
fn a_component_sends_to_itself_and_waits() {
    // By tag, by reference, with a timeout that expires, and with one that does not.
    let body = "(func (export \"run\")
          (call $self (i32.const 16))
          (call $post-bytes (i32.const 16) (i32.const 1) %\"payload\")
          (call $post (i32.const 16) (i32.const 2))
          (call $take (i32.const 2))
          (call $print-number (i32.load (i32.const 128)))
          (call $print-number (call $poll (i32.const 2)))
          (call $receive (i32.const 1) (i64.const 2) (i64.const 0) (i32.const 1) (i64.const 1000000) (i32.const 96))
          (call $print-number (i32.load8_u (i32.const 96)))
          (call $receive (i32.const 0) (i64.const 0) (i64.const 0)
            (i32.const 1) (i64.const 60000000000) (i32.const 96))
          (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168)))
          (call $make-reference (i32.const 192))
          (call $send (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 3) (i32.const 1)
            (i64.load (i32.const 192)) (i64.load (i32.const 200)) (i32.const 1) (i32.const 0) (i32.const 0))
          (call $receive (i32.const 3) (i64.load (i32.const 192)) (i64.load (i32.const 200))
            (i32.const 0) (i64.const 0) (i32.const 96))
          (call $print-number (i32.load (i32.const 128)))
          (call $print-number (i32.load8_u (i32.const 160)))
          (call $must (i64.eq (i64.load (i32.const 120)) (i64.load (i32.const 24))))
          (call $must (call $is-alive (i64.load (i32.const 16)) (i64.load (i32.const 24))))
          (call $yield-now)
          (call $print %\"done\"))";
    prints("run", body, "2\n0\n0\npayload\n3\n1\ndone\n");
}

#[test]
fn components_and_modules_spawn_each_other() {
    let component = Component::printing(
        "run neighbour component-worker",
        "(func (export \"component-worker\")
           (call $parent (i32.const 256))
           (call $print %\"a component's process\")
           (call $post (i32.const 256) (i32.const 7)))
         (func (export \"run\")
           (call $start %\"component-worker\" (i32.const 272))
           (call $take (i32.const 7))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"module\" %\"module-worker\" (i32.const 272))))
           (call $take (i32.const 8))
           (call $print-number (call $try-start-in %\"module\" %\"nobody\" (i32.const 272)))
           (call $print-number (call $try-start-in %\"nobody\" %\"nobody\" (i32.const 272)))
           (call $print %\"done\"))",
    );
    let module = guest(
        "(func (export \"module-worker\")
           (call $parent (i32.const 256))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"main\" %\"neighbour\" (i32.const 272))))
           (call $must (i32.eq (call $ask (i32.const 272)) (i32.const 1)))
           (call $must (i32.eq (call $ask (i32.const 272)) (i32.const 2)))
           (call $print %\"a module's process\")
           (call $post (i32.const 256) (i32.const 8)))
         (func (export \"run\"))",
    );
    Atoll::run(component)
        .program("module", module)
        .outcome()
        .code(0)
        .stdout("a component's process\na module's process\n1\n0\ndone\n")
        .stderr("");
}

#[test]
fn a_component_uses_the_whole_contract() {
    // Its server is first one of its own processes and then one of a module, with the same behaviour.
    let body = format!(
        "{TIE_FUNCTIONS}
         (func (export \"run\")
           (call $trap-exits)
           (call $self (i32.const 16))
           (i32.store8 (i32.const 2208) (i32.const 0))
           (i32.store8 (i32.const 2232) (i32.const 1))
           (call $make-reference (i32.const 192))
           (call $copy-id (i32.const 192) (i32.const 2240))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-with %\"server\" (i32.const 2208) (i32.const 2) (i32.const 272))))
           (call $use)
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"module\" %\"server\" (i32.const 272))))
           (call $link-to (i32.const 272))
           (call $watch (i32.const 272) (i32.const 192))
           (call $use))
         (func $use
           (call $must (i32.eq (i32.const -1) (call $name %\"one\" (i32.const 272))))
           (call $must (call $is-named %\"one\" (i32.const 272)))
           (call $must (i32.eqz (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const -1))))
           (call $print-number (i32.load (i32.const 2152)))
           (call $print (i32.load (i32.const 2188)) (i32.load (i32.const 2192)))
           (call $must (i32.eq (i32.const -1) (call $enter %\"group\" (i32.const 272))))
           (call $must (i32.eq (i32.const -1) (call $name %\"main\" (i32.const 16))))
           (call $registered (i32.const 2096))
           (call $print-number (i32.load (i32.const 2100)))
           (call $print (i32.load (i32.load (i32.const 2096))) (i32.load offset=4 (i32.load (i32.const 2096))))
           (call $print
             (i32.load offset=8 (i32.load (i32.const 2096))) (i32.load offset=12 (i32.load (i32.const 2096))))
           (call $must (call $unregister %\"main\"))
           (call $members %\"group\" (i32.const 2096))
           (call $must (call $same (i32.load (i32.const 2096)) (i32.const 272)))
           (call $start-timer (i64.const 1000000) (i32.const 0)
             (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 9) (i32.const 2304))
           (call $take-kinds (i32.const 8))
           (call $print-number (i32.load (i32.const 128)))
           (call $must (call $same (i32.const 112) (i32.const 2304)))
           (call $signal-bytes (i32.const 272) %\"the reason\")
           (call $print-number (call $take-down-of (i32.const 192)))
           (call $print (i32.load (i32.const 156)) (i32.load (i32.const 160)))
           (call $print-number (call $take-exit))
           (call $print (i32.load (i32.const 132)) (i32.load (i32.const 136)))
           (call $must (call $is-nobody %\"one\"))
           (call $must (call $is-empty)))"
    );
    let component = Component::printing_with(TIES, "run server", &body);
    let once = "5\npayload\n2\nmain\none\n9\n10\nthe reason\n10\nthe reason\n";
    Atoll::run(component)
        .program("module", tied_guest("(func (export \"run\"))"))
        .outcome()
        .code(0)
        .stdout(&once.repeat(2))
        .stderr("");
}

#[test]
fn offenders_that_are_components() {
    let offenders = [
        ("traps", "(unreachable)", "trap: wasm trap: wasm `unreachable` instruction executed"),
        ("recurses", "(call $the-recurses)", "trap: wasm trap: call stack exhausted"),
        (
            "tags",
            "(call $receive (i32.const 2) (i64.const 0) (i64.const 65) (i32.const 0) (i64.const 0) (i32.const 96))",
            "trap: receive: a selector may list 64 tags, not 65",
        ),
        (
            "options",
            "(memory.fill (i32.const 0x8000) (i32.const 0) (i32.const 0x8000))
             (drop (call $try-start-with %\"run\" (i32.const 0x8000) (i32.const 1000) (i32.const 272)))",
            "trap: spawn: 1000 options are more than the limit of 32",
        ),
        (
            "message",
            "(drop (memory.grow (i32.const 32)))
             (call $self (i32.const 16))
             (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 0x100001))",
            "exhausted: message",
        ),
        (
            "mailbox",
            "(call $self (i32.const 16))
             (loop $again
               (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 65536)) (br $again))",
            "exhausted: mailbox",
        ),
        ("exits", "(call $exit (i32.const 8) (i32.const 0) (i32.const 0))", "exhausted: memory"),
    ];
    check_offenders(&offenders, |found, expected| found == expected);
}

#[test]
fn components_with_made_up_pointers() {
    // The texts are wasmtime's own. It matters only that the processes trap.
    let offenders = [
        ("payload", "(call $self (i32.const 16))
             (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0x1ffff) (i32.const 2))", "trap: "),
        ("payload-length", "(call $self (i32.const 16))
             (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const -1))", "trap: "),
        ("own-pid", "(call $self (i32.const 0x1fff8))", "trap: "),
        ("own-pid-misaligned", "(call $self (i32.const 0x101))", "trap: "),
        ("event", "(call $self (i32.const 16)) (call $post (i32.const 16) (i32.const 1))
             (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const -8))", "trap: "),
        ("function", "(drop (call $try-start (i32.const -1) (i32.const -1) (i32.const 272)))", "trap: "),
        ("options", "(drop (call $try-start-with %\"run\" (i32.const 0) (i32.const -1) (i32.const 272)))", "trap: "),
        ("tags", "(call $receive (i32.const 2) (i64.const 0) (i64.const -1) (i32.const 0) (i64.const 0) (i32.const 96))", "trap: "),
        ("reason", "(call $exit (i32.const 10) (i32.const 0x20000) (i32.const 1))", "trap: "),
        ("case", "(call $exit (i32.const 11) (i32.const 0) (i32.const 0))", "trap: "),
    ];
    check_offenders(&offenders, |found, expected| found.starts_with(expected));
}

/// Name, body, and reason of offenders in a component. Main and the neighbour are in another program.
#[track_caller]
fn check_offenders(offenders: &[(&str, &str, &str)], fits: impl Fn(&str, &str) -> bool) {
    let mut names = String::from("run");
    let mut functions = String::from("(func (export \"run\"))");
    let mut run = String::from("(call $start %\"neighbour\" (i32.const 256))");
    for (number, (name, body, _)) in (1..).zip(offenders) {
        names += &format!(" {name}");
        functions += &format!("(func $the-{name} (export \"{name}\") {body})");
        run += &format!(
            "(call $must (i32.eq (i32.const -1)
               (call $try-start-in %\"component\" %\"{name}\" (i32.const 272))))
             (call $await-end (i32.const 272))
             (call $must (i32.eq (call $ask (i32.const 256)) (i32.const {number})))"
        );
    }
    let options = ["--max-message", "1MiB", "--max-mailbox", "1MiB"];
    let component = Component::printing(&names, &functions);
    let main = format!("(func (export \"run\") {run} (call $print %\"the neighbour answers\"))");
    let outcome = Atoll::run(guest(&main))
        .program("component", &component)
        .options(options)
        .outcome()
        .code(0)
        .stdout("the neighbour answers\n");
    let crashes = outcome.crashes();
    assert_eq!(crashes.len(), offenders.len(), "\n{outcome}");
    for (name, _, reason) in offenders {
        let reported = crashes
            .iter()
            .any(|crash| crash.function == *name && fits(&crash.reason, reason));
        assert!(reported, "no report of {name}: {reason}\n{outcome}");
    }
    // As main, each offender ends the program.
    for (name, _, reason) in offenders {
        let code = if reason.starts_with("trap") { 134 } else { 138 };
        Atoll::run(&component)
            .options(options)
            .options(["--function", name])
            .outcome()
            .code(code);
    }
}

#[test]
fn components_that_never_end_and_a_neighbour() {
    let component = Component::printing(
        "run spins sends",
        "(func (export \"run\"))
         (func (export \"spins\") (loop $for-ever (br $for-ever)))
         (func (export \"sends\")
           (call $self (i32.const 16))
           (loop $again
             (call $post-bytes (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 60000))
             (call $take (i32.const 1)) (br $again)))",
    );
    let main = guest(
        "(func (export \"run\")
           (local $count i32)
           (call $start %\"neighbour\" (i32.const 256))
           (drop (call $try-start-in %\"component\" %\"spins\" (i32.const 272)))
           (drop (call $try-start-in %\"component\" %\"sends\" (i32.const 272)))
           (drop (call $try-start-in %\"component\" %\"spins\" (i32.const 272)))
           (drop (call $try-start-in %\"component\" %\"sends\" (i32.const 272)))
           (loop $again
             (local.set $count (call $ask (i32.const 256)))
             (br_if $again (i32.lt_u (local.get $count) (i32.const 100))))
           (call $print-number (local.get $count)))",
    );
    for schedulers in ["1", "2"] {
        Atoll::run(&main)
            .program("component", &component)
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("100\n")
            .stderr("");
    }
}

#[test]
fn components_whose_start_function_traps_or_never_ends() {
    for (start, function) in [
        ("(unreachable)", "run"),
        ("(loop $for-ever (br $for-ever))", ""),
    ] {
        let component = Component::printing(
            "run",
            &format!("(func $first {start}) (start $first) (func (export \"run\"))"),
        );
        let main = guest(
            "(func (export \"run\")
               (local $count i32)
               (call $start %\"neighbour\" (i32.const 256))
               (call $must (i32.eq (i32.const -1)
                 (call $try-start-in %\"component\" %\"run\" (i32.const 272))))
               WAIT
               (loop $again
                 (local.set $count (call $ask (i32.const 256)))
                 (br_if $again (i32.lt_u (local.get $count) (i32.const 100))))
               (call $print-number (local.get $count)))",
        );
        let wait = if function.is_empty() {
            ""
        } else {
            "(call $await-end (i32.const 272))"
        };
        let outcome = Atoll::run(main.replace("WAIT", wait))
            .program("component", &component)
            .outcome()
            .code(0)
            .stdout("100\n");
        if function.is_empty() {
            outcome.stderr("");
        } else {
            outcome.crash(
                "run",
                "trap: wasm trap: wasm `unreachable` instruction executed",
            );
        }
    }
}

#[test]
fn a_component_grows_memory_for_ever() {
    let body = "(func (export \"run\")
          (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
          (call $print-number (memory.size)))";
    let component = Component::printing("run", body);
    Atoll::run(component)
        .options(["--max-memory", "4MiB"])
        .outcome()
        .code(0)
        .stdout("64\n");
}

#[test]
fn many_instances_of_one_module_count_together() {
    // Each instance has four MiB. The host can know before it makes a process that the component has 40 of them.
    let instances = "(core instance (instantiate $part))".repeat(40);
    let component = format!(
        "(component
           (core module $part (memory (export \"memory\") 64) (func (export \"run\")))
           (core module $main (memory 1) (func (export \"run\")))
           {instances}
           (core instance $main (instantiate $main))
           (func $run (canon lift (core func $main \"run\")))
           (export \"run\" (func $run)))"
    );
    Atoll::run(&component).outcome().code(0).stderr("");
    // The component exceeds the limit, so loading it is an error and no process dies.
    let main = guest(
        "(func (export \"run\")
           (call $print-number (call $try-start-in %\"component\" %\"run\" (i32.const 272))))",
    );
    Atoll::run(main)
        .program("component", &component)
        .options(["--max-memory", "16MiB"])
        .outcome()
        .code(1)
        .stdout("")
        .stderr_has(
            "can't be loaded: the module's memory is too large: it starts with 167837696 bytes",
        );
}

#[test]
fn a_component_of_several_modules_in_text() {
    let component = "(component
        (core module $library
          (memory (export \"memory\") 1)
          (func (export \"seven\") (result i32) (i32.const 7)))
        (core module $main
          (import \"library\" \"seven\" (func $seven (result i32)))
          (memory 1)
          (func (export \"run\") (if (i32.ne (call $seven) (i32.const 7)) (then (unreachable))))
          (func (export \"fails\") (if (i32.eq (call $seven) (i32.const 7)) (then (unreachable)))))
        (core instance $library (instantiate $library))
        (core instance $main (instantiate $main (with \"library\" (instance $library))))
        (func $run (canon lift (core func $main \"run\")))
        (func $fails (canon lift (core func $main \"fails\")))
        (export \"run\" (func $run))
        (export \"fails\" (func $fails)))";
    Atoll::run(component).outcome().code(0).stderr("");
    Atoll::run(component)
        .options(["--function", "fails"])
        .outcome()
        .code(134)
        .crash(
            "fails",
            "trap: wasm trap: wasm `unreachable` instruction executed",
        );
}

#[test]
fn a_components_exports_are_its_own_and_not_its_modules() {
    // The module has a `run`, too, but the component's `run` is another function.
    let component = "(component
        (core module $module
          (memory (export \"memory\") 1)
          (func (export \"run\") (unreachable))
          (func (export \"real\")))
        (core instance $instance (instantiate $module))
        (func $run (canon lift (core func $instance \"real\")))
        (export \"run\" (func $run)))";
    Atoll::run(component).outcome().code(0).stderr("");
    // Here the component has no `run` at all.
    let component = component.replace(
        "(export \"run\" (func $run))",
        "(export \"go\" (func $run))",
    );
    Atoll::run(component)
        .outcome()
        .code(1)
        .stderr_has("can't be loaded: the module has no entry point");
}

/// A component for `wasi:cli/run`.
fn command(body: &str) -> Vec<u8> {
    let module = printing_module(
        "",
        &format!("(func (export \"wasi:cli/run@0.2.3#run\") (result i32) {body})"),
    );
    let (before, after) = module
        .split_once("(memory ")
        .expect("the prelude has a memory");
    Component {
        world: "package test:guest;
            world guest {
                include atoll-rt:process/process@0.2.0;
                import wasi:cli/stdout@0.2.3;
                import wasi:cli/environment@0.2.3;
                import wasi:cli/exit@0.2.3;
                export wasi:cli/run@0.2.3;
            }"
        .replace("include atoll-rt:process/process@0.2.0;", "
                import atoll-rt:process/lifecycle@0.2.0;
                import atoll-rt:process/mailbox@0.2.0;
                import atoll-rt:process/spawning@0.2.0;")
        .as_str(),
        module: &format!(
            "{before}
             (import \"wasi:cli/environment@0.2.3\" \"get-arguments\" (func $get-arguments (param i32)))
             (import \"wasi:cli/exit@0.2.3\" \"exit\" (func $exit-with (param i32)))
             (memory {after}"
        ),
    }
    .bytes()
}

#[test]
fn commands_of_wasi_that_are_components() {
    for (body, code, stdout) in [
        ("(call $print %\"hello\") (i32.const 0)", 0, "hello\n"),
        ("(call $print %\"hello\") (i32.const 1)", 1, "hello\n"),
        ("(call $exit-with (i32.const 0)) (i32.const 1)", 0, ""),
        ("(call $exit-with (i32.const 1)) (i32.const 0)", 1, ""),
        (
            "(call $exit (i32.const 9) (i32.const 42) (i32.const 0)) (i32.const 0)",
            42,
            "",
        ),
    ] {
        Atoll::run(command(body))
            .outcome()
            .code(code)
            .stdout(stdout)
            .stderr("");
    }
    Atoll::run(command("(unreachable)"))
        .outcome()
        .code(134)
        .crash(
            "wasi:cli/run",
            "trap: wasm trap: wasm `unreachable` instruction executed",
        );
    // The arguments: their number, and the text of the second one.
    let body = "(call $get-arguments (i32.const 1024))
        (call $print-number (i32.load (i32.const 1028)))
        (call $print
          (i32.load offset=8 (i32.load (i32.const 1024))) (i32.load offset=12 (i32.load (i32.const 1024))))
        (i32.const 0)";
    Atoll::run(command(body))
        .arg("first ünïcödé")
        .arg("second")
        .outcome()
        .code(0)
        .stdout("3\nfirst ünïcödé\n");
}

#[test]
fn components_that_can_not_be_loaded() {
    for (component, error) in [
        ("(component)", "the module has no entry point"),
        (
            "(component (import \"test:nobody/nothing@1.0.0\" (instance (export \"f\" (func)))))",
            "the module imports something that does not exist",
        ),
        (
            "(component (import \"atoll-rt:process/mailbox@0.2.0\" (instance (export \"sned\" (func)))))",
            "the module imports something that does not exist",
        ),
        (
            "(component
               (core module $module (memory (export \"memory\") 65536) (func (export \"run\")))
               (core instance $instance (instantiate $module))
               (func $run (canon lift (core func $instance \"run\")))
               (import \"wasi:cli/environment@0.2.0\" (instance))
               (export \"run\" (func $run)))",
            "the module's memory is too large",
        ),
    ] {
        Atoll::run(component)
            .outcome()
            .code(1)
            .stdout("")
            .stderr_has(&format!("can't be loaded: {error}"))
            .stderr_has("\n  hint: ");
    }
    let binary = Component::printing("run", "(func (export \"run\"))");
    for bytes in (8..binary.len()).step_by(401) {
        // A cut may remove only the names at the end.
        if Validator::new_with_features(WasmFeatures::all())
            .validate_all(&binary[..bytes])
            .is_ok()
            && bytes > 8
        {
            continue;
        }
        Atoll::run(&binary[..bytes])
            .outcome()
            .code(1)
            .stdout("")
            .stderr_has("can't be loaded: the module ");
    }
}

#[test]
fn many_pending_operations() {
    // Alarms that no process waits for. Each is a handle, and the host counts handles.
    let clocks = "
package wasi:clocks@0.2.3;
interface monotonic-clock {
    use wasi:io/poll@0.2.3.{pollable};
    subscribe-duration: func(when: u64) -> pollable;
}";
    let module = Guest {
        wasi: false,
        imports: "(import \"wasi:clocks/monotonic-clock@0.2.3\" \"subscribe-duration\"
            (func $subscribe (param i64) (result i32)))",
        body: "(func (export \"run\")
            (loop $again (drop (call $subscribe (i64.const 1000000000000))) (br $again)))",
        ..Guest::default()
    }
    .text();
    let component = Component {
        world: "package test:guest;
            world guest {
                include atoll-rt:process/process@0.2.0;
                import wasi:clocks/monotonic-clock@0.2.3;
            }",
        module: &module,
    }
    .bytes_with(&[clocks]);
    Atoll::run(&component)
        .outcome()
        .code(138)
        .crash("run", "exhausted: resources");
    let main = guest(
        "(func (export \"run\")
           (call $start %\"neighbour\" (i32.const 256))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"component\" (i32.const 0) (i32.const 0) (i32.const 272))))
           (call $await-end (i32.const 272))
           (call $print-number (call $ask (i32.const 256))))",
    );
    Atoll::run(main)
        .program("component", &component)
        .outcome()
        .code(0)
        .stdout("1\n")
        .crash("run", "exhausted: resources");
}
