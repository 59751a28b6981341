//! The rewriter: reads modules and changes them, so that a process can be preempted, packed and run in a slot.
//!
//! This room knows WebAssembly and the contract's lowered signatures ([`crate::abi`]). It never sees wasmtime: bytes go in, and
//! rewritten bytes come out, with what was learned of them ([`rewrite`]). It runs none of the code.
//!
//! ```text
//!   bytes ──► text to binary ──► unwrap? ──► analysis ──► split? ──► flatten ──► bytes, Analysis
//!                 │                 │           │                      ├─ glue, bulk, tables, branches, filling
//!              bounds, features  between     initial, tables           └─ counting
//! ```
//!
//! | file | holds |
//! |---|---|
//! | here | the way through |
//! | `analysis`, `initial`, `sizes` | what a module is, what its instances are at first, and what they take |
//! | `features`, `bounds`, `error` | what is refused, and in which words |
//! | `unwrap` | components that only wrap one module |
//! | `splitting` | functions that are too large |
//! | `flatten` | everything that is changed, in one pass |
//! | `counting` | where reductions are counted, and how |
//! | `glue`, `bulk`, `tables`, `branches`, `filling` | what takes the place of single instructions, imports and sections |
//! | `names` | names of functions, made readable |

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
mod unwrap;

pub(crate) use analysis::{Analysis, ENTRY, GLOBAL_PREFIX};
pub(crate) use bounds::TABLE_PLACE_BYTES;
pub(crate) use counting::{COUNTER, GROWTH_COST, LIBRARY_CALL_COST};
pub use error::{LoadError, LoadErrorKind};
#[cfg(test)]
pub(crate) use features::examples;
pub(crate) use features::{COMPONENTS, spawnable};
pub(crate) use flatten::Originals;
pub(crate) use initial::{Initial, Value};
pub(crate) use names::readable;
pub(crate) use sizes::Sizes;

use crate::text::printable_lines;
use bounds::TEXT_BYTES_MAX;
use error::LoadErrorKind as Kind;
use std::borrow::Cow;
use wasmparser::Parser;

/// A file, sorted by what it is.
pub(crate) enum Rewritten<'a> {
    /// A core module, or a component that only wraps one.
    Module(Box<Module>),
    /// A component that needs to be one.
    Component(Component<'a>),
}

pub(crate) struct Module {
    pub(crate) analysis: Analysis,
    /// The module as it is to be compiled; none if it can't be run, because it imports what nobody provides, or has no entry.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) is_unwrapped: bool,
}

pub(crate) struct Component<'a> {
    /// It is compiled as it is.
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) sizes: Sizes,
    /// Why it can't be unwrapped.
    pub(crate) why: &'static str,
}

/// Reads a binary or the text of one, validates it, and rewrites it for slices of so many reductions.
pub(crate) fn rewrite(
    bytes: &[u8],
    bytes_max: u64,
    slice: u64,
) -> Result<Rewritten<'_>, LoadError> {
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} bytes; the limit is {bytes_max}", bytes.len());
        return Err(LoadError::new(Kind::TooLarge, text));
    }
    let bytes = binary(bytes)?;
    if Parser::is_core_wasm(&bytes) {
        return module(&bytes, false, slice);
    }
    match unwrap::unwrap(&bytes)? {
        Ok(inside) => module(&inside, true, slice),
        Err(why) => Ok(Rewritten::Component(Component {
            sizes: sizes::of_component(&bytes)?,
            bytes,
            why,
        })),
    }
}

fn module(bytes: &[u8], is_unwrapped: bool, slice: u64) -> Result<Rewritten<'static>, LoadError> {
    let mut analysis = Analysis::read(bytes)?;
    let mut bytes = Cow::from(bytes);
    if analysis.largest_body > splitting::BODY_BYTES_MAX
        && let Some(split) = splitting::split(&bytes)?
    {
        analysis = Analysis::read(&split)?;
        bytes = split.into();
    }
    let can_run = analysis.unknown_import().is_none() && analysis.entry().is_some();
    let rewritten = can_run.then(|| flatten::rewrite(&bytes, &analysis, slice));
    Ok(Rewritten::Module(Box::new(Module {
        bytes: rewritten.transpose()?,
        analysis,
        is_unwrapped,
    })))
}

/// The bytes as binary wasm of the right kind and version.
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
        Err(error) => Err(LoadError::new(
            Kind::Invalid,
            printable_lines(&error.to_string()),
        )),
    }
}
