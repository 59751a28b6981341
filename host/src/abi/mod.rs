//! The contract's functions as core modules see them: the canonical ABI's lowering of `wit/`, as data.
//!
//! The loader checks imports against this table, the rewriter takes from it which imports need glue, the linker defines
//! exactly these functions, and they read and write guest memory by [`layout`]. `cargo xtask contract` generates
//! `contract.rs` and `layout.rs` from `wit/process.wit`. This file holds the types of its tables, and the facts that WIT does not state.

pub(crate) mod layout;

mod contract;
mod module;

pub(crate) use contract::{FUNCTIONS, PACKAGE};
pub use module::contract_module;

use contract::VERSION;
use wasmparser::ValType;

/// The module that rewritten imports come from. No guest may import from it itself.
pub(crate) const RAW_MODULE: &str = "atoll:raw";
/// Copies the bytes that a raw function announced to where glue has made room for them: `(pointer)`.
pub(crate) const RAW_TAKE: &str = "take";
/// Ends the process's turn: `(reductions that were left of the slice)`.
pub(crate) const RAW_PAUSE: &str = "pause";

/// Says what growing a memory has cost, in reductions, because it had to move: `() -> i64`.
pub(crate) const RAW_MOVED: &str = "moved";

/// Copying so many bytes costs a reduction, whether the host copies them or the guest's own code.
pub(crate) const BYTES_PER_REDUCTION: u64 = 64;

/// How a function of the contract is carried out by the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// By one call, which does everything.
    Direct,
    /// By a call that may answer "again", a negative number, when the process has to give up its turn first. Any other
    /// answer is the function's result, if it has one.
    Retry,
    /// The same, and it may leave lists, for which the guest's `cabi_realloc` has to make room. It answers with an i64:
    /// 0 for none, else the first list's size in bytes, and its alignment from bit 32 on. Taking a list answers in the
    /// same way for the next one.
    RetryThenLists,
    /// The same for one list that is a message's payload, whose pointer belongs so far behind the result's address. A short
    /// one comes with the answer ([`SHORT`]): the function answers with two i64 more, which hold it.
    RetryThenPayload(u64),
}

/// The mark of an answer with which the payload comes.
pub(crate) const SHORT: i64 = 1 << 40;
/// The longest payload that comes with an answer, in bytes.
pub(crate) const SHORT_BYTES_MAX: usize = 16;

impl Shape {
    /// May the host leave lists for the guest to make room for?
    pub(crate) fn leaves_lists(self) -> bool {
        matches!(self, Shape::RetryThenLists | Shape::RetryThenPayload(_))
    }

    /// The results of the raw function that glue calls.
    pub(crate) fn raw_answers(self) -> &'static [ValType] {
        match self {
            Shape::Direct | Shape::Retry => &[ValType::I32],
            Shape::RetryThenLists => &[ValType::I64],
            Shape::RetryThenPayload(_) => &[ValType::I64; 3],
        }
    }
}

/// One function of the contract.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) interface: &'static str,
    pub(crate) name: &'static str,
    pub(crate) params: &'static [ValType],
    pub(crate) results: &'static [ValType],
    pub(crate) shape: Shape,
}

/// How a type lies in guest memory: in so many bytes, at a multiple of its alignment.
#[derive(Clone, Copy)]
pub(crate) struct Layout<const BYTES: usize, const ALIGNMENT: u32>;

/// The name by which core modules import an interface of the contract.
pub(crate) fn interface_module(interface: &str) -> String {
    format!("{PACKAGE}{interface}@{VERSION}")
}

impl Function {
    /// The name of the raw function behind a rewritten import. Several interfaces have functions with names like `monitor`.
    pub(crate) fn raw_name(&self) -> String {
        let interface = self.interface.strip_prefix(PACKAGE).unwrap_or_default();
        format!("{interface}/{}", self.name)
    }
}

/// The function that a core module imports under these names.
pub(crate) fn function(module: &str, name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .iter()
        .find(|function| function.interface == module && function.name == name)
}
