//! Errors of loading a program.

use crate::text::printable_lines;
use std::fmt::{self, Display, Write};

/// Tells users which proposals are on and which are off: the list of [`features`](super::features).
const PROPOSALS_HINT: &str = "Atoll runs WebAssembly 2.0 without `externref`, with tail calls, typed function references, \
    several memories, extended constants and relaxed SIMD; build the guest without other proposals (threads, exceptions, \
    garbage collection, 64-bit memories, asynchronous components, …)";

/// Says why a program can't be loaded, where the error is, and what helps.
#[derive(Clone, Debug)]
pub struct LoadError {
    kind: LoadErrorKind,
    detail: String,
}

/// The kinds of [`LoadError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The file is neither a wasm binary nor wasm text: it is empty or begins with other bytes.
    NotWasm,
    /// The file exceeds a limit, such as a module of 300 MiB.
    TooLarge,
    /// The file begins as wasm but is invalid: it is cut off, or sections contradict each other.
    Invalid,
    /// The module uses a WebAssembly proposal that is off here, such as exceptions, threads or `externref`.
    Unsupported,
    /// The module imports something that the host doesn't provide, such as `env.print`.
    UnknownImport,
    /// The module imports an interface of the contract that it is not granted: `atoll-rt:process/inspection` without
    /// `allow_inspect`, for instance.
    NotGranted,
    /// The module imports a function of the contract with parameters or results that differ from the contract's.
    WrongSignature,
    /// The module exports neither the world's `run` nor WASI's entry.
    NoEntry,
    /// The module uses functions that return values in memory but exports no memory.
    NoMemory,
    /// The module uses functions that return lists but exports no `cabi_realloc`.
    NoRealloc,
    /// The module's memory starts larger than the limit.
    MemoryTooLarge,
    /// The module could not be compiled.
    Compile,
    /// Compiling the module exceeds `max_compile_time` or `max_compile_memory`.
    TooCostly,
}

impl LoadError {
    pub(crate) fn new(kind: LoadErrorKind, detail: impl Into<String>) -> LoadError {
        LoadError {
            kind,
            detail: detail.into(),
        }
    }

    /// An error of reading or validating. Its text may quote the file, so it is made printable.
    pub(super) fn quoting(kind: LoadErrorKind, error: &dyn Display) -> LoadError {
        LoadError::new(kind, printable_lines(&error.to_string()))
    }

    /// Replaces the function indexes in the compiler's text by those that `index` returns.
    pub(crate) fn with_indexes(mut self, index: impl Fn(u32) -> Option<u32>) -> LoadError {
        const BEFORE: &str = "wasm[0]::function[";
        let mut parts = self.detail.split(BEFORE);
        let mut detail = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let known = part
                .split_once(']')
                .and_then(|(number, rest)| Some((index(number.parse().ok()?)?, rest)));
            match known {
                Some((index, rest)) => {
                    let _ = write!(detail, "function {index}{rest}");
                }
                None => {
                    detail += BEFORE;
                    detail += part;
                }
            }
        }
        self.detail = detail;
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> LoadErrorKind {
        self.kind
    }

    /// A hint that says what to do about it.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            LoadErrorKind::NotWasm => {
                "give a .wasm module, a component, or the .wat text of either"
            }
            LoadErrorKind::TooLarge => {
                "is it the right file? An embedding program can raise `max_module`; the other limits are far beyond what compilers emit"
            }
            LoadErrorKind::Invalid => {
                "build it again; if it was copied, compare its size with the original's"
            }
            LoadErrorKind::Unsupported => PROPOSALS_HINT,
            LoadErrorKind::UnknownImport => {
                "a guest may import atoll-rt:process/* 0.2.0 and WASI; `atoll inspect FILE` lists what this one wants"
            }
            LoadErrorKind::NotGranted => {
                "grant it, if you trust the program: `--allow-inspect` to look at processes, `--allow-debug` to suspend them; a policy grants interfaces to programs by `rights`"
            }
            LoadErrorKind::WrongSignature => {
                "generate its bindings again from the contract in wit/"
            }
            LoadErrorKind::NoEntry => {
                "export `run: func()` (the world atoll-rt:process/process), or build a WASI command with `_start`"
            }
            LoadErrorKind::NoMemory => {
                "export the module's memory as `memory`, as every wit-bindgen toolchain does"
            }
            LoadErrorKind::NoRealloc => {
                "link with wit-bindgen's bindings, or export a `cabi_realloc` of your own"
            }
            LoadErrorKind::MemoryTooLarge => {
                "raise --max-memory, or link the guest with a smaller initial memory"
            }
            LoadErrorKind::Compile => {
                "check the module with another runtime or `wasm-tools validate`"
            }
            LoadErrorKind::TooCostly => {
                "raise --max-compile-time or --max-compile-memory, if you trust the program; or build it with smaller functions"
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            LoadErrorKind::NotWasm => "this is not WebAssembly",
            LoadErrorKind::TooLarge => "the module is too large",
            LoadErrorKind::Invalid => "the module is not valid",
            LoadErrorKind::Unsupported => "the module uses a proposal that is off here",
            LoadErrorKind::UnknownImport => "the module imports something that does not exist",
            LoadErrorKind::NotGranted => "the module imports something that is not granted",
            LoadErrorKind::WrongSignature => "the module imports a function with a wrong signature",
            LoadErrorKind::NoEntry => "the module has no entry point",
            LoadErrorKind::NoMemory => "the module exports no memory",
            LoadErrorKind::NoRealloc => "the module exports no `cabi_realloc`",
            LoadErrorKind::MemoryTooLarge => "the module's memory is too large",
            LoadErrorKind::Compile => "the module can't be compiled",
            LoadErrorKind::TooCostly => "the module is too costly to compile",
        };
        write!(f, "{what}: {}", self.detail)
    }
}
