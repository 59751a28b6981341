//! Attacks that once succeeded, and similar ones: each test states the property that must hold.
//!
//! A guest here is valid WebAssembly, and [`valid`] checks that: it is hostile, not malformed. If the host may either run a
//! guest or refuse it, [`ran_or_refused`] accepts both outcomes, and no other.

mod growth;
mod instructions;
mod loading;
mod memory;
mod resources;
mod stack;
mod wrapping;

use atoll_tests::Outcome;
use wasmparser::{Validator, WasmFeatures};

/// The reason of a process that accessed an address outside of its memory.
const OUT_OF_BOUNDS: &str = "trap: wasm trap: out of bounds memory access";

/// The binary of a guest. It is valid if every proposal is allowed.
#[track_caller]
fn valid(guest: impl AsRef<[u8]>) -> Vec<u8> {
    let guest = guest.as_ref();
    let shown = || String::from_utf8_lossy(&guest[..guest.len().min(2000)]);
    let binary = wat::parse_bytes(guest)
        .unwrap_or_else(|error| panic!("the guest is no text: {error}"))
        .into_owned();
    if let Err(error) = Validator::new_with_features(WasmFeatures::all()).validate_all(&binary) {
        panic!("the guest is malformed: {error}\n{}", shown());
    }
    binary
}

/// A component around one core module. It runs as a component because it imports an interface of WASI's. It lifts the
/// module's functions under their names.
fn component(module_fields: &str, functions: &[&str]) -> String {
    let lifted: String = functions
        .iter()
        .map(|name| format!("(func (export \"{name}\") (canon lift (core func $i \"{name}\")))\n"))
        .collect();
    format!(
        "(component
           (import \"wasi:random/random@0.2.0\" (instance))
           (core module $m {module_fields})
           (core instance $i (instantiate $m))
           {lifted})"
    )
}

/// The two right outcomes for a guest that the host need not run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Became {
    /// The guest ran to its end.
    Ran,
    /// The host did not load it.
    Refused,
}

/// A guest either ran to its end, with this exit code and nothing on standard error, or the host did not load it and said so
/// in the usual form. Any other outcome is a failure: a signal, a panic of the host, a crash report.
fn became(outcome: &Outcome, code: i32) -> Option<Became> {
    let is_refusal = outcome.code == Some(1)
        && outcome.stdout.is_empty()
        && outcome.stderr.contains("` can't be loaded: ")
        && outcome.stderr.contains("\n  hint: ");
    if is_refusal {
        return Some(Became::Refused);
    }
    (outcome.code == Some(code) && outcome.stderr.is_empty()).then_some(Became::Ran)
}

/// Asserts that the outcome was this one.
#[track_caller]
fn ran_or_refused(outcome: &Outcome, code: i32) -> Became {
    became(outcome, code).unwrap_or_else(|| {
        panic!("it neither ran with exit code {code} nor was refused\n{outcome}")
    })
}
