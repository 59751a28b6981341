//! Loading: from a file's bytes to a program, by the first path that fits, running none of its code.

use super::analysis::Analysis;
use super::bounds::TEXT_BYTES_MAX;
use super::compiler::Compiler;
use super::config::Counts;
use super::error::{LoadError, LoadErrorKind as Kind};
use super::flatten::Originals;
use super::instance::{Common, Program};
use super::sizes::{self, Sizes};
use super::slots::{HomeClass, Slots, Warm};
use super::state::State;
use super::{config, flatten, splitting, unwrap};
use crate::contract;
use crate::system::program::Runnable;
use crate::system::{Config, Hibernation};
use crate::text::{printable_lines, printable_name};
use crate::wasi::Wasi;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use wasmparser::Parser;
use wasmtime::component::Component;
use wasmtime::{Linker, Module, component};

/// Everything that programs of one system share.
pub(crate) struct Engine {
    slots: Arc<Slots>,
    modules: Modules,
    /// Made when there is the first.
    components: OnceLock<Components>,
    wasi: Arc<Wasi>,
    compiler: Compiler,
    config: Config,
    grants: Grants,
}

/// What programs on the flattened path share.
struct Modules {
    engine: wasmtime::Engine,
    linker: Linker<State>,
}

/// What programs on the component path share. Their reductions are counted by wasmtime, so they are compiled otherwise.
struct Components {
    engine: wasmtime::Engine,
    linker: component::Linker<State>,
}

/// The interfaces of the contract that are capabilities of their own, and which of them are granted.
#[derive(Clone, Copy)]
pub(crate) struct Grants {
    pub(crate) inspection: bool,
    pub(crate) debugging: bool,
}

impl Grants {
    /// May a program import this interface?
    fn allow(self, interface: &str) -> bool {
        let is = |name: &str| interface.contains(name);
        (self.inspection || !is("atoll:process/inspection@"))
            && (self.debugging || !is("atoll:process/debugging@"))
    }
}

/// A file's bytes as binary wasm, sorted by what they are.
pub(super) enum Guest<'a> {
    /// A core module, or a component that only wraps one: the bytes of the module, and what it is.
    Core {
        bytes: Cow<'a, [u8]>,
        analysis: Box<Analysis>,
        unwrapped: bool,
    },
    /// A component that needs to be one, and why it can't be flattened.
    Component {
        bytes: Cow<'a, [u8]>,
        why: &'static str,
    },
}

impl Engine {
    pub(crate) fn new(system: &Config, wasi: Arc<Wasi>) -> wasmtime::Result<Engine> {
        let slots = Slots::new(config::stack_bytes(system), system.poison)?;
        let engine = config::engine(system, &slots, Counts::Module)?;
        let mut linker = Linker::new(&engine);
        contract::link_core(&mut linker)?;
        crate::wasi::add_preview1(&mut linker)?;
        let grants = Grants {
            inspection: system.allow_inspect,
            debugging: system.allow_debug,
        };
        Ok(Engine {
            slots,
            modules: Modules { engine, linker },
            components: OnceLock::new(),
            wasi,
            compiler: Compiler::new(system),
            config: system.clone(),
            grants,
        })
    }

    fn components(&self) -> wasmtime::Result<&Components> {
        if let Some(components) = self.components.get() {
            return Ok(components);
        }
        let engine = config::engine(&self.config, &self.slots, Counts::Fuel)?;
        let mut linker = component::Linker::new(&engine);
        contract::link_component(&mut linker, self.grants)?;
        crate::wasi::add_preview2(&mut linker)?;
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

    /// What hibernation has done.
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

    /// Makes a program of a module, a component, or the text of either.
    pub(crate) fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<dyn Runnable>, LoadError> {
        match sort(bytes, self.config.max_module)? {
            Guest::Core {
                bytes, analysis, ..
            } => self.load_core(name, &bytes, &analysis),
            Guest::Component { bytes, .. } => self.load_component(name, &bytes),
        }
    }

    fn load_core(
        &self,
        name: &str,
        bytes: &[u8],
        analysis: &Analysis,
    ) -> Result<Arc<dyn Runnable>, LoadError> {
        if let Some(import) = analysis
            .imports
            .iter()
            .find(|import| import.contract.is_none() && !import.is_wasi())
        {
            let text = format!(
                "`{}` from `{}`",
                printable_name(&import.name),
                printable_name(&import.module)
            );
            return Err(LoadError::new(Kind::UnknownImport, text));
        }
        if let Some(import) = analysis
            .imports
            .iter()
            .find(|import| !self.grants.allow(&import.module))
        {
            let text = printable_name(&import.module);
            return Err(LoadError::new(Kind::NotGranted, text));
        }
        let entry = analysis
            .entry()
            .ok_or_else(|| no_entry(&analysis.functions))?;
        let sizes = Sizes {
            memory_bytes: analysis.memory_bytes_min,
            instance_bytes: analysis.instance_bytes,
            data_bytes: analysis.initial.data_bytes() as u64,
        };
        self.check_memory(sizes)?;
        let rewritten = flatten::rewrite(bytes, analysis, self.config.reductions.into())?;
        let Modules { engine, linker } = &self.modules;
        let module: Module = self.compiler.code(engine, &rewritten).map_err(|error| {
            let originals = Originals::of(analysis);
            error.with_indexes(|index| originals.index(index))
        })?;
        let instance = linker.instantiate_pre(&module).map_err(unlinked)?;
        let home = match analysis.memory {
            Some((minimum, maximum)) => {
                Slots::home_class(minimum as usize, maximum.map(|bytes| bytes as usize))
            }
            None => Slots::home_class(0, Some(0)),
        };
        let data = &analysis.data;
        let common = self.common(engine, name, home, data, sizes);
        Ok(Arc::new(Program::core(
            common, &module, instance, analysis, entry,
        )))
    }

    fn load_component(&self, name: &str, bytes: &[u8]) -> Result<Arc<dyn Runnable>, LoadError> {
        let sizes = sizes::of_component(bytes)?;
        self.check_memory(sizes)?;
        let Components { engine, linker } = self.components().map_err(LoadError::not_compiled)?;
        let component: Component = self.compiler.code(engine, bytes)?;
        let ty = component.component_type();
        let mut imports = ty.imports(engine);
        if let Some((name, _)) = imports.find(|(name, _)| !self.grants.allow(name)) {
            return Err(LoadError::new(Kind::NotGranted, printable_name(name)));
        }
        drop(imports);
        let instance = linker.instantiate_pre(&component).map_err(unlinked)?;
        let home = Slots::home_class(sizes.memory_bytes as usize, None);
        let common = self.common(engine, name, home, &(0..0), sizes);
        let program =
            Program::component(common, &component, instance).ok_or_else(|| no_entry(&[]))?;
        Ok(Arc::new(program))
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
            legacy: Arc::default(),
        }
    }
}

/// Finds out what a file is, and turns text into binary.
pub(super) fn sort(bytes: &[u8], bytes_max: u64) -> Result<Guest<'_>, LoadError> {
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} bytes; the limit is {bytes_max}", bytes.len());
        return Err(LoadError::new(Kind::TooLarge, text));
    }
    let bytes = binary(bytes)?;
    if Parser::is_core_wasm(&bytes) {
        return core(bytes, false);
    }
    match unwrap::unwrap(&bytes)? {
        Ok(module) => core(module.into(), true),
        Err(why) => Ok(Guest::Component { bytes, why }),
    }
}

/// A core module, whose large functions are split.
fn core(bytes: Cow<'_, [u8]>, unwrapped: bool) -> Result<Guest<'_>, LoadError> {
    let guest = |bytes, analysis| Guest::Core {
        bytes,
        analysis: Box::new(analysis),
        unwrapped,
    };
    let analysis = Analysis::read(&bytes)?;
    if analysis.largest_body <= splitting::BODY_BYTES_MAX {
        return Ok(guest(bytes, analysis));
    }
    match splitting::split(&bytes)? {
        Some(split) => {
            let analysis = Analysis::read(&split)?;
            Ok(guest(split.into(), analysis))
        }
        None => Ok(guest(bytes, analysis)),
    }
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

/// Something is imported that the linker does not have, or not so.
fn unlinked(error: wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    // For components, what is missing has no type of its own.
    let is_missing =
        error.is::<wasmtime::UnknownImportError>() || text.contains("not found in the linker");
    let kind = if is_missing {
        Kind::UnknownImport
    } else {
        Kind::WrongSignature
    };
    LoadError::new(kind, printable_lines(&text))
}
