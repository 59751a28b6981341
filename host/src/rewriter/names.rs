//! Names of a guest's functions. The loading thread makes them readable and short.
//!
//! A name is untrusted: it may have megabytes, contain terminal escapes, or nest so deep that demangling takes more stack than a
//! process has. So the thread that loads the module demangles all names here, within limits. Later a process's own stack is only
//! asked which function it is in (the engine's `instance`).

use crate::text::{NAME_SHOWN_BYTES_MAX, printable_name, start_of};
use wasm_encoder::{NameMap, NameSection};
use wasmparser::{CustomSectionReader, KnownCustom, Name};

/// A longer name is not demangled. Compilers emit such names for types with many parameters; the beginning says enough.
const DEMANGLED_BYTES_MAX: usize = 4096;
/// The part of a demangled name that is read. A shorter part is shown.
const LOOKED_AT_BYTES_MAX: usize = 4 * NAME_SHOWN_BYTES_MAX;

/// A readable name for a guest's function.
pub(crate) fn readable(name: &str) -> String {
    if name.len() > DEMANGLED_BYTES_MAX {
        return printable_name(name);
    }
    let demangled = rustc_demangle::demangle(name);
    printable_name(&start_of(
        format_args!("{demangled:#}"),
        LOOKED_AT_BYTES_MAX,
    ))
}

/// The name section of a rewritten module, with readable names and new function indexes. Errors in a name section don't fail the
/// module: the rewriter keeps the names that it can read.
pub(super) fn section(
    section: &CustomSectionReader<'_>,
    new_index: impl Fn(u32) -> Option<u32>,
) -> Option<NameSection> {
    let KnownCustom::Name(subsections) = section.as_known() else {
        return None;
    };
    let mut functions = NameMap::new();
    for subsection in subsections.into_iter().map_while(Result::ok) {
        let Name::Function(names) = subsection else {
            continue;
        };
        for naming in names.into_iter().map_while(Result::ok) {
            if let Some(index) = new_index(naming.index) {
                functions.append(index, &readable(naming.name));
            }
        }
    }
    let mut names = NameSection::new();
    names.functions(&functions);
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_demangled_escaped_and_cut() {
        assert_eq!(
            readable("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
            "core::fmt::Write::write_fmt"
        );
        assert_eq!(readable("_RNvC3foo3bar"), "foo::bar");
        assert_eq!(readable("plain"), "plain");
        assert_eq!(readable("a\u{202e}b\x1b"), "a\\u{202e}b\\u{1b}");
        // These are as deep as the demangler goes, and as long as a name may be.
        for levels in [100, 498, 1000] {
            let name = format!("_R{}C1a{}", "Nv".repeat(levels), "1b".repeat(levels));
            assert!(readable(&name).len() < 2 * NAME_SHOWN_BYTES_MAX);
        }
        let long = "x".repeat(DEMANGLED_BYTES_MAX + 1);
        assert!(readable(&long).len() < 2 * NAME_SHOWN_BYTES_MAX);
        // Each back reference doubles what it refers to.
        let doubling = format!("_RINvC1a1b{}E", "TB9_B9_E".repeat(200));
        assert!(readable(&doubling).len() < 2 * NAME_SHOWN_BYTES_MAX);
    }
}
