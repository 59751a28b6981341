//! Compiles modules and components: in this process, or apart, in a process of its own.
//!
//! A stranger may have written the module, and the compiler's work need not be in proportion to it. So compiling has
//! limits of time and memory. Only another process can enforce them, because a thread that compiles can't be stopped. A
//! process that compiles can, and a fault of the compiler ends that process alone. [`apart`] is the side that asks,
//! [`worker`] the side that compiles.

mod apart;
mod worker;

pub(super) mod compiled;

pub use worker::{CompileKind, compile_apart};

use super::cache::Cache;
use super::config::Counts;
use crate::rewriter::{LoadError, LoadErrorKind};
use crate::system::Config;
use crate::text::printable_lines;
use apart::Apart;
use compiled::Compiled;
use std::panic::AssertUnwindSafe;
use wasmtime::Engine;

/// How the programs of a system are compiled.
pub(super) struct Compiler {
    cache: Option<Cache>,
    /// None: in this process.
    apart: Option<Apart>,
}

impl Compiler {
    pub(super) fn new(config: &Config) -> Compiler {
        Compiler {
            cache: config.cache.then(Cache::open).flatten(),
            apart: Apart::new(config),
        }
    }

    /// Returns code for these bytes: from the cache if it is there, or else compiled now and kept.
    pub(super) fn code<C: Compiled>(&self, engine: &Engine, bytes: &[u8]) -> Result<C, LoadError> {
        let Some(cache) = &self.cache else {
            return Ok(self.compile(engine, bytes)?.0);
        };
        let path = cache.path::<C>(engine, bytes);
        if let Some(kept) = cache.kept(engine, &path) {
            return Ok(kept);
        }
        let (compiled, code): (C, _) = self.compile(engine, bytes)?;
        match code.map_or_else(|| compiled.serialize(), Ok) {
            Ok(code) => cache.keep(&path, &code),
            Err(error) => tracing::info!("compiled code is not kept: {error:#}"),
        }
        Ok(compiled)
    }

    /// Compiles. Also returns the code as bytes, if compiling has produced them.
    fn compile<C: Compiled>(
        &self,
        engine: &Engine,
        bytes: &[u8],
    ) -> Result<(C, Option<Vec<u8>>), LoadError> {
        let Some(apart) = &self.apart else {
            return Ok((compile_here(engine, bytes)?, None));
        };
        let code = apart.compile(C::KIND, bytes)?;
        // SAFETY: the program that `Config::compiler` names has made this code, and the embedder promises that it is
        // Atoll's. wasmtime refuses code that another version has made, or one with other settings.
        let compiled = unsafe { C::deserialize(engine, &code) };
        Ok((compiled.map_err(not_compiled)?, Some(code)))
    }
}

/// Compiles in this process. wasmtime's compiler panics on some valid components, for instance on one that exports a core
/// module with a global of type `(ref $t)`. The panic must not end the program that loads them.
fn compile_here<C: Compiled>(engine: &Engine, bytes: &[u8]) -> Result<C, LoadError> {
    // The engine's own state changes only when the code is complete.
    let compile = AssertUnwindSafe(|| C::compile(engine, bytes));
    match std::panic::catch_unwind(compile) {
        Ok(compiled) => compiled.map_err(not_compiled),
        Err(_) => Err(LoadError::new(
            LoadErrorKind::Compile,
            "the compiler has failed, which is a defect of wasmtime's",
        )),
    }
}

/// Turns the compiler's error into a reason why a program can't be loaded.
pub(super) fn not_compiled(error: wasmtime::Error) -> LoadError {
    let text = printable_lines(&format!("{error:#}"));
    LoadError::new(LoadErrorKind::Compile, text)
}

impl CompileKind {
    /// Says whether the module or wasmtime counts the reductions of such code.
    fn counts(self) -> Counts {
        match self {
            CompileKind::Module => Counts::Module,
            CompileKind::Component => Counts::Fuel,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, LoadErrorKind, System};

    /// A component that exports a core module with a typed reference. wasmtime's compiler panics on it.
    const PANICS: &str = r#"(component
        (core module $m (type $f (func)) (func $g (type $f)) (elem declare func $g)
          (global (export "g") (ref $f) (ref.func $g)))
        (core module $n) (core instance (instantiate $n))
        (export "m" (core module $m)))"#;

    #[test]
    fn a_panic_of_the_compiler_is_an_error_of_the_module() {
        let config = Config {
            schedulers: 1,
            cache: false,
            ..Config::default()
        };
        let system = System::new(config).expect("the system starts");
        let error = system.load("panics", PANICS.as_bytes()).err();
        let error = error.expect("the compiler fails");
        assert_eq!(error.kind(), LoadErrorKind::Compile);
        let fine = system.load("fine", br#"(module (func (export "run")))"#);
        fine.expect("the system still loads programs");
    }
}
