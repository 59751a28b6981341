//! Names of a guest's functions, made readable and short when a module is loaded.
//!
//! A name is a stranger's: it may have megabytes, drive a terminal, or nest so deep that to demangle it takes more stack than
//! a process has. So names are demangled here, by the thread that loads, each with a bound; what a process's own stack
//! is asked for later (the engine's `instance`) is only which function it is in.

use crate::text::{NAME_SHOWN_BYTES_MAX, printable_name, start_of};
use wasm_encoder::{NameMap, NameSection};
use wasmparser::{CustomSectionReader, KnownCustom, Name};

/// A longer name is not demangled. Compilers emit such for types of many parameters, whose first part says as much.
const DEMANGLED_BYTES_MAX: usize = 4096;
/// So much of what a name demangles to is looked at; less is shown.
const LOOKED_AT_BYTES_MAX: usize = 4 * NAME_SHOWN_BYTES_MAX;

/// The name of a guest's function, for people.
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

/// The same for a name section: that of a rewritten module, in which functions lie elsewhere. What is wrong with a name
/// section is no fault of the module's: what can be read of it is used.
pub(super) fn section(
    section: &CustomSectionReader<'_>,
    moved: impl Fn(u32) -> Option<u32>,
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
            if let Some(index) = moved(naming.index) {
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
        // As deep as the demangler goes, and as long as it may be.
        for levels in [100, 498, 1000] {
            let name = format!("_R{}C1a{}", "Nv".repeat(levels), "1b".repeat(levels));
            assert!(readable(&name).len() < 2 * NAME_SHOWN_BYTES_MAX);
        }
        let long = "x".repeat(DEMANGLED_BYTES_MAX + 1);
        assert!(readable(&long).len() < 2 * NAME_SHOWN_BYTES_MAX);
        // Back references that double what they refer to, again and again.
        let doubling = format!("_RINvC1a1b{}E", "TB9_B9_E".repeat(200));
        assert!(readable(&doubling).len() < 2 * NAME_SHOWN_BYTES_MAX);
    }
}
