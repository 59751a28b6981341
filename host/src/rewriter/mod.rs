//! The rewriter reads and changes modules, so that a process can be preempted, packed and run in a slot.
//!
//! This room knows WebAssembly and the contract's lowered signatures ([`crate::abi`]), but not wasmtime. It takes bytes and
//! returns rewritten bytes with what it has learned from them ([`rewrite`]). It runs none of the code.
//!
//! ```text
//!   bytes ──► text to binary ──► unwrap? ──► analysis ──► split? ──► flatten ──► bytes, Analysis
//!                 │                 │           │                      ├─ glue, bulk, tables, branches, filling
//!              bounds, features  between     initial, tables           └─ counting
//! ```
//!
//! | file | holds |
//! |---|---|
//! | here | the steps from file to rewritten module |
//! | `analysis`, `initial`, `sizes` | a module's parts, the initial state of its instances, and the memory that they take |
//! | `features`, `bounds`, `error` | the proposals, the limits, and the errors of loading |
//! | `unwrap` | components that only wrap one module |
//! | `splitting` | splitting functions that are too large |
//! | `flatten` | the rewriting itself, in one pass |
//! | `counting` | counting of reductions |
//! | `glue`, `bulk`, `tables`, `branches`, `filling` | code that replaces single instructions, imports and sections |
//! | `names` | readable names of functions |

mod analysis;
mod bounds;
mod branches;
mod bulk;
mod counting;
mod error;
mod features;
mod filling;
mod flatten;
mod glue;
mod initial;
mod names;
mod sizes;
mod splitting;
mod tables;
#[cfg(test)]
mod tests;
mod unwrap;

pub(crate) use analysis::{Analysis, ENTRY, GLOBAL_PREFIX};
pub(crate) use bounds::TABLE_ELEMENT_BYTES;
pub(crate) use counting::{COUNTER, GROWTH_COST, LIBRARY_CALL_COST};
pub use error::{LoadError, LoadErrorKind};
#[cfg(test)]
pub(crate) use features::examples;
pub(crate) use features::{COMPONENTS, spawnable};
pub(crate) use flatten::Originals;
pub(crate) use initial::{Initial, Value};
pub(crate) use names::readable;
pub(crate) use sizes::Sizes;

use bounds::TEXT_BYTES_MAX;
use error::LoadErrorKind as Kind;
use std::borrow::Cow;
use wasmparser::{Parser, Payload};

/// A file after rewriting.
pub(crate) enum Rewritten<'a> {
    /// A core module, or a component that only wraps one.
    Module(Box<Module>),
    /// A component that can't be run as a module.
    Component(Component<'a>),
}

pub(crate) struct Module {
    pub(crate) analysis: Analysis,
    /// The rewritten module. None if it can't run, because it has an unknown import or no entry.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) is_unwrapped: bool,
}

pub(crate) struct Component<'a> {
    /// The component's bytes, unchanged.
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) sizes: Sizes,
    /// The reason why it can't be unwrapped.
    pub(crate) why: &'static str,
}

impl Component<'_> {
    /// The names of the interfaces and other items that it imports.
    pub(crate) fn imports(&self) -> Vec<String> {
        let mut imports = Vec::new();
        let mut depth = 0u32;
        // The bytes were validated when they were sorted, so a payload that can't be read does not occur.
        for payload in Parser::new(0).parse_all(&self.bytes).flatten() {
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    let section = section.into_iter().flatten();
                    imports.extend(section.map(|import| import.name.name.to_owned()));
                }
                _ => {}
            }
        }
        imports
    }
}

/// The module's own functions that a rewritten module exports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exported {
    /// As few as possible: the host calls only the entry.
    Needed,
    /// All that the module exports, so that the test harness can call them.
    All,
}

/// Reads a binary or wasm text, validates it, and rewrites it. A slice has `slice` reductions.
pub(crate) fn rewrite(
    bytes: &[u8],
    bytes_max: u64,
    slice: u64,
    exported: Exported,
) -> Result<Rewritten<'_>, LoadError> {
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} bytes; the limit is {bytes_max}", bytes.len());
        return Err(LoadError::new(Kind::TooLarge, text));
    }
    let bytes = binary(bytes)?;
    if Parser::is_core_wasm(&bytes) {
        return module(&bytes, false, slice, exported);
    }
    match unwrap::unwrap(&bytes)? {
        Ok(inside) => module(&inside, true, slice, exported),
        Err(why) => Ok(Rewritten::Component(Component {
            sizes: sizes::of_component(&bytes)?,
            bytes,
            why,
        })),
    }
}

fn module(
    bytes: &[u8],
    is_unwrapped: bool,
    slice: u64,
    exported: Exported,
) -> Result<Rewritten<'static>, LoadError> {
    let mut analysis = Analysis::read(bytes)?;
    let mut bytes = Cow::from(bytes);
    if analysis.largest_body > splitting::BODY_BYTES_MAX
        && let Some(split) = splitting::split(&bytes)?
    {
        analysis = Analysis::read(&split)?;
        bytes = split.into();
    }
    if exported == Exported::All {
        analysis.calls.keep_functions();
    }
    let can_run = analysis.unknown_import().is_none() && analysis.entry().is_some();
    let rewritten = can_run.then(|| flatten::rewrite(&bytes, &analysis, slice));
    Ok(Rewritten::Module(Box::new(Module {
        bytes: rewritten.transpose()?,
        analysis,
        is_unwrapped,
    })))
}

/// Checks the kind and version of a binary, or parses a text.
fn binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    let not_wasm = |text: String| Err(LoadError::new(Kind::NotWasm, text));
    if bytes.is_empty() {
        return not_wasm("the file is empty".into());
    }
    if bytes.starts_with(b"\0asm") {
        if Parser::is_core_wasm(bytes) || Parser::is_component(bytes) {
            return Ok(bytes.into());
        }
        let text =
            "it begins as wasm does, but its version is not one that this host knows".to_owned();
        return Err(LoadError::new(Kind::Invalid, text));
    }
    let text = std::str::from_utf8(bytes).ok().map(str::trim_start);
    if !text.is_some_and(|text| text.starts_with('(') || text.starts_with(";;")) {
        return not_wasm(
            "it begins neither as a binary (`\\0asm`) nor as text (`(module` or `(component`)"
                .into(),
        );
    }
    if bytes.len() > TEXT_BYTES_MAX {
        let text = format!(
            "{} bytes of text; the limit is {TEXT_BYTES_MAX}: make a binary of it (`wasm-tools parse`)",
            bytes.len()
        );
        return Err(LoadError::new(Kind::TooLarge, text));
    }
    match wat::parse_bytes(bytes) {
        Ok(binary) => Ok(binary.into_owned().into()),
        Err(error) => Err(LoadError::quoting(Kind::Invalid, &error)),
    }
}
