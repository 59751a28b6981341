//! Loading: from a file's bytes to a program, by the first path that fits, running none of its code.

use super::compiler::{Compiler, not_compiled};
use super::config::{self, Counts};
use super::inhabitant::Legacy;
use super::instance::{self, Common, Program};
use super::packing::Templates;
use super::self_test::SelfTest;
use super::slots::{HomeClass, Slots, Warm};
use super::state::State;
use crate::rewriter::{
    self, Exported, LoadError, LoadErrorKind as Kind, Originals, Rewritten, Sizes,
};
use crate::scheduler::Seam;
use crate::system::program::Runnable;
use crate::system::{Config, Hibernation, Rights};
use crate::text::{printable_lines, printable_name};
use crate::wasi::Wasi;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use wasmtime::component::Component;
use wasmtime::{Linker, Module, component};

/// Everything that programs of one system share.
pub(crate) struct Engine {
    slots: Arc<Slots>,
    self_test: Arc<SelfTest>,
    modules: Modules,
    /// Made for the first component.
    components: OnceLock<Components>,
    contract: Contract,
    wasi: Arc<Wasi>,
    compiler: Compiler,
    config: Config,
}

/// Shared by the programs on the flattened path.
struct Modules {
    engine: wasmtime::Engine,
    linker: Linker<State>,
}

/// Shared by the programs on the component path. wasmtime counts their reductions, so they need an engine with other
/// settings.
struct Components {
    engine: wasmtime::Engine,
    linker: component::Linker<State>,
}

/// The functions that link the contract. The engine does not know the contract's functions itself.
#[derive(Clone, Copy)]
pub(crate) struct Contract {
    pub(crate) link_modules: fn(&mut Linker<State>) -> wasmtime::Result<()>,
    pub(crate) link_components: fn(&mut component::Linker<State>) -> wasmtime::Result<()>,
}

impl Engine {
    pub(crate) fn new(
        system: &Config,
        seam: &Arc<Seam>,
        wasi: Arc<Wasi>,
        contract: Contract,
    ) -> wasmtime::Result<Engine> {
        let slots = Slots::new(config::stack_bytes(system), system.poison, seam.clone())?;
        let engine = config::engine(system, &slots, Counts::Module)?;
        let mut linker = Linker::new(&engine);
        (contract.link_modules)(&mut linker)?;
        crate::wasi::add_preview1(&mut linker)?;
        let self_test = Arc::new(SelfTest::new(engine.clone(), slots.clone()));
        Ok(Engine {
            slots,
            self_test,
            modules: Modules { engine, linker },
            components: OnceLock::new(),
            contract,
            wasi,
            compiler: Compiler::new(system),
            config: system.clone(),
        })
    }

    fn components(&self) -> wasmtime::Result<&Components> {
        if let Some(components) = self.components.get() {
            return Ok(components);
        }
        let engine = config::engine(&self.config, &self.slots, Counts::Fuel)?;
        let mut linker = component::Linker::new(&engine);
        crate::wasi::add_preview2(&mut linker)?;
        // The contract replaces some of WASI's functions.
        (self.contract.link_components)(&mut linker)?;
        Ok(self
            .components
            .get_or_init(|| Components { engine, linker }))
    }

    /// Slots that hold a process's memory and stack.
    pub(crate) fn slots_in_use(&self) -> usize {
        self.slots.in_use()
    }

    #[cfg(test)]
    pub(crate) fn slots(&self) -> std::sync::Weak<Slots> {
        Arc::downgrade(&self.slots)
    }

    /// The counters of hibernation.
    pub(crate) fn hibernation(&self) -> Hibernation {
        let tally = &self.slots.packed;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Hibernation {
            packed: load(&tally.packed),
            unpacked: load(&tally.unpacked),
            in_part: load(&tally.in_part),
            bytes: load(&tally.bytes),
            nanoseconds: load(&tally.nanoseconds),
            is_deep: self.slots.has_arenas(),
            is_off: self.self_test.has_failed(),
        }
    }

    /// How often an instance was used again by another process.
    pub(crate) fn instances_used_again(&self) -> u64 {
        self.slots.used_again()
    }

    /// WASI contexts of processes, each with the handles that its process has open.
    pub(crate) fn contexts_open(&self) -> usize {
        self.wasi.contexts_open()
    }

    /// Makes a program of a module, a component, or the text of either. Its processes will have these rights at most.
    pub(crate) fn load(
        &self,
        name: &str,
        bytes: &[u8],
        rights: Rights,
    ) -> Result<Arc<dyn Runnable>, LoadError> {
        match self.rewrite(bytes, Exported::Needed)? {
            Rewritten::Module(module) => Ok(Arc::new(self.load_module(name, &module, rights)?)),
            Rewritten::Component(component) => {
                let loaded = self.load_component(name, &component, rights)?;
                let program = Program::component(loaded).ok_or_else(|| no_entry(&[]))?;
                Ok(Arc::new(program))
            }
        }
    }

    /// Takes the first steps of loading, which do not need wasmtime.
    pub(super) fn rewrite<'a>(
        &self,
        bytes: &'a [u8],
        exported: Exported,
    ) -> Result<Rewritten<'a>, LoadError> {
        let slice = self.config.reductions.into();
        rewriter::rewrite(bytes, self.config.max_module, slice, exported)
    }

    /// Makes a program of a rewritten module.
    pub(super) fn load_module(
        &self,
        name: &str,
        module: &rewriter::Module,
        rights: Rights,
    ) -> Result<Program<instance::Core>, LoadError> {
        let analysis = &module.analysis;
        if let Some(import) = analysis.unknown_import() {
            let text = format!(
                "`{}` from `{}`",
                printable_name(&import.name),
                printable_name(&import.module)
            );
            return Err(LoadError::new(Kind::UnknownImport, text));
        }
        let imports = analysis.imports.iter().map(|import| &*import.module);
        let needs = needs(imports, rights)?;
        let (Some(entry), Some(bytes)) = (analysis.entry(), &module.bytes) else {
            return Err(no_entry(&analysis.functions));
        };
        let sizes = analysis.sizes();
        self.check_memory(sizes)?;
        let Modules { engine, linker } = &self.modules;
        let compiled: Module = self.compiler.code(engine, bytes).map_err(|error| {
            let originals = Originals::of(analysis);
            error.with_indexes(|index| originals.index(index))
        })?;
        let instance = linker.instantiate_pre(&compiled).map_err(unlinked)?;
        let home = match analysis.memory {
            Some((minimum, maximum)) => {
                Slots::home_class(minimum as usize, maximum.map(|bytes| bytes as usize))
            }
            None => Slots::home_class(0, Some(0)),
        };
        let common = self.common(engine, name, needs, home, &analysis.data, sizes);
        Ok(Program::core(common, &compiled, instance, analysis, entry))
    }

    /// Compiles and links a component.
    pub(super) fn load_component(
        &self,
        name: &str,
        component: &rewriter::Component<'_>,
        rights: Rights,
    ) -> Result<instance::Loaded, LoadError> {
        let sizes = component.sizes;
        self.check_memory(sizes)?;
        let imports = component.imports();
        let needs = needs(imports.iter().map(String::as_str), rights)?;
        let Components { engine, linker } = self.components().map_err(not_compiled)?;
        let compiled: Component = self.compiler.code(engine, &component.bytes)?;
        let instance = linker.instantiate_pre(&compiled).map_err(unlinked)?;
        let home = Slots::home_class(sizes.memory_bytes as usize, None);
        Ok(instance::Loaded {
            common: self.common(engine, name, needs, home, &(0..0), sizes),
            component: compiled,
            instance,
        })
    }

    fn check_memory(&self, sizes: Sizes) -> Result<(), LoadError> {
        let bytes = sizes.all_bytes();
        let bytes_max = self.config.max_memory;
        if bytes > bytes_max {
            let text = format!("it starts with {bytes} bytes; a process may have {bytes_max}");
            return Err(LoadError::new(Kind::MemoryTooLarge, text));
        }
        Ok(())
    }

    fn common(
        &self,
        engine: &wasmtime::Engine,
        name: &str,
        needs: Rights,
        home: HomeClass,
        data: &Range<usize>,
        sizes: Sizes,
    ) -> Common {
        Common {
            engine: engine.clone(),
            slots: self.slots.clone(),
            wasi: self.wasi.clone(),
            name: name.to_owned(),
            home,
            warm: Warm::around(data),
            sizes,
            needs,
            legacy: Arc::new(Legacy {
                templates: Templates::default(),
                self_test: self.self_test.clone(),
                recycling: None,
            }),
        }
    }
}

/// The rights that a program with these imports needs. An error that names the first import whose right is not granted.
fn needs<'a>(imports: impl Iterator<Item = &'a str>, granted: Rights) -> Result<Rights, LoadError> {
    let mut needs = Rights::empty();
    for import in imports {
        let right = Rights::of_interface(import);
        if !granted.contains(right) {
            return Err(LoadError::new(Kind::NotGranted, printable_name(import)));
        }
        needs |= right;
    }
    Ok(needs)
}

fn no_entry(functions: &[(String, u32)]) -> LoadError {
    let names: Vec<String> = functions
        .iter()
        .map(|(name, _)| printable_name(name))
        .take(8)
        .collect();
    let text = if names.is_empty() {
        "it exports no function without parameters and results".to_owned()
    } else {
        format!(
            "it exports neither `run` nor `_start`, only {}",
            names.join(", ")
        )
    };
    LoadError::new(Kind::NoEntry, text)
}

/// The linker lacks an import, or has it with another type.
fn unlinked(error: wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    // wasmtime has no error type for a missing import of a component.
    let is_missing =
        error.is::<wasmtime::UnknownImportError>() || text.contains("not found in the linker");
    let kind = if is_missing {
        Kind::UnknownImport
    } else {
        Kind::WrongSignature
    };
    LoadError::new(kind, printable_lines(&text))
}
