//! Describes a file without running it: for `atoll inspect` and for embedding programs.

use crate::abi::PACKAGE;
use crate::engine::{WASI_RUN, obstacle};
use crate::rewriter::{self, Analysis, Exported, LoadError, Rewritten, spawnable};
use crate::system::Rights;
use crate::wasi::{is_preview1_function, is_preview2_interface};
use wasmparser::{ComponentExternalKind, Parser, Payload};

/// A module is rewritten to see whether it can be. The length of a slice does not matter for that.
const SLICE: u64 = 4000;

/// A description of a file, and of how the host would run it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The way in which it would be run.
    pub path: Path,
    /// The reason for that way, in words.
    pub why: String,
    /// Its imports.
    pub imports: Vec<Import>,
    /// The size of its first memory in bytes: at the start, and at most if the file gives a maximum. None for
    /// components.
    pub memory: Option<(u64, Option<u64>)>,
    /// The reason why an instance serves one process only. None if instances are recycled: made as new and used for
    /// the next process.
    pub used_once: Option<&'static str>,
    /// The functions that can be spawned.
    pub functions: Vec<String>,
    /// The rights without which it can't be loaded: those of the interfaces that it imports. A program that imports WASI's files,
    /// sockets and so on is loaded without the rights to them, and finds none.
    pub needs: Rights,
    /// The function that runs when none is named. A file without one can't be run.
    pub entry: Option<String>,
}

/// The ways to run a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// As a core module. Its imports are linked directly.
    Flattened,
    /// As a component.
    Component,
}

/// One import, and its provider.
#[derive(Clone, Debug)]
pub struct Import {
    /// The module or interface.
    pub module: String,
    /// The function. Empty for a component, which imports whole interfaces.
    pub name: String,
    /// Its provider.
    pub status: ImportStatus,
}

/// The provider of an import.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportStatus {
    /// Atoll itself, always.
    Contract,
    /// WASI. It is always linked; the command line grants what it may use.
    Wasi,
    /// No provider: the program can't be loaded.
    Unknown,
}

impl Inspection {
    /// Describes a binary or a text.
    pub fn of(bytes: &[u8]) -> Result<Inspection, LoadError> {
        Ok(
            match rewriter::rewrite(bytes, u64::MAX, SLICE, Exported::Needed)? {
                Rewritten::Module(module) => core(&module.analysis, module.is_unwrapped),
                Rewritten::Component(found) => component(&found),
            },
        )
    }
}

/// The rights that a program with these imports needs.
fn needs<'a>(imports: impl Iterator<Item = &'a str>) -> Rights {
    imports.fold(Rights::empty(), |needs, import| {
        needs | Rights::of_interface(import)
    })
}

fn core(analysis: &Analysis, unwrapped: bool) -> Inspection {
    let what = if unwrapped {
        "a component that only wraps one core module"
    } else {
        "a core module"
    };
    let kind = match (analysis.is_atoll_guest(), analysis.imports_wasi()) {
        (true, true) => "importing atoll-rt:process and WASI preview 1",
        (true, false) => "importing atoll-rt:process",
        (false, true) => "importing WASI preview 1",
        (false, false) => "importing neither atoll-rt:process nor WASI",
    };
    let imports = analysis.imports.iter().map(|import| Import {
        module: import.module.clone(),
        name: import.name.clone(),
        status: match (import.contract, import.is_wasi()) {
            (Some(_), _) => ImportStatus::Contract,
            (None, true) if is_preview1_function(&import.name) => ImportStatus::Wasi,
            (None, _) => ImportStatus::Unknown,
        },
    });
    Inspection {
        needs: needs(analysis.imports.iter().map(|import| &*import.module)),
        path: Path::Flattened,
        why: format!("{what} {kind}"),
        imports: imports.collect(),
        memory: analysis.memory,
        used_once: obstacle(analysis),
        functions: analysis
            .functions
            .iter()
            .map(|(name, _)| name.clone())
            .collect(),
        entry: analysis
            .entry()
            .map(|index| analysis.functions[index].0.clone()),
    }
}

fn component(found: &rewriter::Component<'_>) -> Inspection {
    let bytes = &*found.bytes;
    let mut functions = Vec::new();
    let mut depth = 0u32;
    let is_spawnable = spawnable(bytes);
    // The bytes were validated when they were sorted, so a payload that can't be read does not occur.
    for payload in Parser::new(0).parse_all(bytes).flatten() {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.into_iter().flatten() {
                    let name = export.name.name;
                    match export.kind {
                        ComponentExternalKind::Func if is_spawnable(name) => {
                            functions.push(name.to_owned());
                        }
                        ComponentExternalKind::Instance
                            if name.starts_with("wasi:cli/run@0.2.") =>
                        {
                            functions.push(WASI_RUN.to_owned());
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let imports = found.imports().into_iter().map(|module| Import {
        name: String::new(),
        status: if module.starts_with(PACKAGE) {
            ImportStatus::Contract
        } else if is_preview2_interface(&module) {
            ImportStatus::Wasi
        } else {
            ImportStatus::Unknown
        },
        module,
    });
    let entry = [WASI_RUN, "run"]
        .iter()
        .find(|entry| functions.iter().any(|name| name == *entry));
    Inspection {
        needs: needs(found.imports().iter().map(String::as_str)),
        path: Path::Component,
        why: format!("a component; {}", found.why),
        imports: imports.collect(),
        memory: None,
        used_once: Some("it is a component"),
        entry: entry.map(|entry| (*entry).to_owned()),
        functions,
    }
}
