//! `atoll inspect`: its output for each kind of file, as text and as JSON.

use crate::wrap::{Component, PROCESS_WORLD};
use atoll_tests::{Atoll, bare_guest, built_guest, guest};
use serde_json::{Value, json};

#[track_caller]
fn check_text(guest: impl AsRef<[u8]>, text: &str) {
    Atoll::inspect(guest)
        .outcome()
        .code(0)
        .stdout(text)
        .stderr("");
}

#[track_caller]
fn inspected(guest: impl AsRef<[u8]>) -> Value {
    let outcome = Atoll::inspect(guest)
        .options(["--json"])
        .outcome()
        .code(0)
        .stderr("");
    serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("no JSON: {error}\n{outcome}"))
}

#[test]
fn a_core_module() {
    let text = "(module
        (import \"atoll-rt:process/lifecycle@0.2.0\" \"self\" (func (param i32)))
        (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))
        (memory (export \"memory\") 2 10)
        (func (export \"run\")) (func (export \"worker\")) (func (export \"other\") (param i32)))";
    check_text(
        text,
        "path       flattened
why        a core module importing atoll-rt:process and WASI preview 1
world      atoll-rt:process/process
entry      run
memory     128 KiB, at most 640 KiB
instances  recycled: made as new when a process returns, for the next
functions  run, worker
rights     none
imports    atoll-rt:process/lifecycle@0.2.0 self: provided by atoll
           wasi_snapshot_preview1 fd_write: provided as WASI; files and network only as granted to `atoll run`
",
    );
    assert_eq!(
        inspected(text),
        json!({
            "path": "flattened",
            "why": "a core module importing atoll-rt:process and WASI preview 1",
            "world": "atoll-rt:process/process",
            "entry": "run",
            "memory": { "minimum": 131_072, "maximum": 655_360 },
            "usedOnce": null,
            "functions": ["run", "worker"],
            "rights": [],
            "imports": [
                { "module": "atoll-rt:process/lifecycle@0.2.0", "name": "self", "provider": "atoll" },
                { "module": "wasi_snapshot_preview1", "name": "fd_write", "provider": "wasi" },
            ],
        })
    );
}

#[test]
fn a_wasi_command() {
    let inspection = inspected(std::fs::read(built_guest("hello.wasm")).expect("it is built"));
    assert_eq!(inspection["path"], "flattened");
    assert_eq!(inspection["why"], "a core module importing WASI preview 1");
    assert_eq!(inspection["world"], "wasi:cli/command");
    assert_eq!(inspection["entry"], "_start");
}

#[test]
fn a_module_that_imports_nothing() {
    check_text(
        "(module (func (export \"run\")))",
        "path       flattened
why        a core module importing neither atoll-rt:process nor WASI
world      atoll-rt:process/process
entry      run
instances  recycled: made as new when a process returns, for the next
functions  run
rights     none
",
    );
}

#[test]
fn modules_that_can_not_be_run() {
    let text =
        "(module (import \"env\" \"print\" (func (param i32))) (memory 1) (func (export \"go\")))";
    check_text(
        text,
        "path       flattened
why        a core module importing neither atoll-rt:process nor WASI
world      none that can be run
entry      none: it can't be run
memory     64 KiB, at most the limit of a process
instances  used once: it does not export its memory
functions  go
rights     none
imports    env print: NOT PROVIDED: the program can't be loaded
",
    );
    let inspection = inspected(text);
    assert_eq!(inspection["entry"], Value::Null);
    assert_eq!(inspection["imports"][0]["provider"], "unknown");
}

#[test]
fn unknown_functions_of_wasi_are_not_listed_as_provided() {
    let module = inspected(
        "(module (import \"wasi_snapshot_preview1\" \"nonsense\" (func)) (func (export \"run\")))",
    );
    assert_eq!(module["imports"][0]["provider"], "unknown", "{module}");
    let component = inspected("(component (import \"wasi:nonsense/nobody@0.2.0\" (instance)))");
    assert_eq!(
        component["imports"][0]["provider"], "unknown",
        "{component}"
    );
}

#[test]
fn a_component_that_only_wraps_a_module() {
    let component = Component {
        world: PROCESS_WORLD,
        module: &bare_guest("(func (export \"run\"))"),
    };
    let inspection = inspected(component.bytes());
    assert_eq!(inspection["path"], "flattened");
    assert_eq!(
        inspection["why"],
        "a component that only wraps one core module importing atoll-rt:process"
    );
    assert_eq!(inspection["world"], "atoll-rt:process/process");
    assert_eq!(inspection["entry"], "run");
    assert_eq!(inspection["memory"]["minimum"], 131_072);
}

#[test]
fn a_component_that_needs_to_be_one() {
    let component = Component::printing("run", "(func (export \"run\"))");
    let inspection = inspected(component);
    assert_eq!(inspection["path"], "component");
    assert_eq!(
        inspection["why"],
        "a component; it imports interfaces other than the contract's"
    );
    assert_eq!(inspection["world"], "atoll-rt:process/process");
    assert_eq!(inspection["entry"], "run");
    assert_eq!(inspection["memory"], Value::Null);
    let provided: Vec<_> = inspection["imports"]
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|import| {
            let text = |name: &str| import[name].as_str().expect("it is a text").to_owned();
            (text("module"), text("provider"))
        })
        .collect();
    for (module, provider) in [
        ("atoll-rt:process/mailbox@0.2.0", "atoll"),
        ("wasi:cli/stdout@0.2.3", "wasi"),
    ] {
        assert!(
            provided.contains(&(module.to_owned(), provider.to_owned())),
            "{provided:?}"
        );
    }
}

#[test]
fn inspect_runs_nothing_and_wants_no_permission() {
    // A file that is too large to run can still be inspected.
    let large = guest("(func (export \"run\") (call $print %\"runs\"))")
        .replace("(export \"memory\") 2", "(export \"memory\") 65536");
    let inspection = inspected(large);
    assert_eq!(inspection["memory"]["minimum"], 1u64 << 32);
}
