//! Finds components that only wrap one core module for this contract, and unwraps the module.
//!
//! wit-component makes such a component of a core module. Every import of the module is a lowered import of the component with
//! the same name, and every export of the component is a lifted export of the module with the same name. Strings are UTF-8, and
//! lists lie in the module's own `memory`, in buffers from its own `cabi_realloc`. Then the module alone means the same and runs
//! on the flattened path. `unwrap` checks everything in the component. If it finds anything that it doesn't know to mean the
//! same, the component runs as a component. Modules of wit-component's own may connect the two ([`between`]).

mod between;

use super::analysis::Analysis;
use super::error::{LoadError, LoadErrorKind};
use super::features;
use crate::abi;
use between::{Between, TABLE};
use std::collections::HashMap;
use std::ops::Range;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExport, ComponentExternalKind,
    ComponentImport, ComponentTypeRef, Encoding, ExternalKind, Instance, Parser, Payload,
};

/// The index spaces of a component, as far as unwrapping needs them.
#[derive(Default)]
struct Wiring<'a> {
    modules: Vec<Range<usize>>,
    core_instances: Vec<CoreInstance<'a>>,
    core_functions: Vec<CoreFunction<'a>>,
    core_memories: Vec<Exported<'a>>,
    core_tables: Vec<Exported<'a>>,
    instances: Vec<Option<&'a str>>,
    functions: Vec<Function<'a>>,
    exports: Vec<(&'a str, Option<u32>)>,
}

/// An export of a core instance: the instance and the name.
type Exported<'a> = (u32, &'a str);

enum CoreInstance<'a> {
    Module {
        module: u32,
        arguments: Vec<(&'a str, u32)>,
    },
    /// Exports by name, with kind and index.
    Exports(HashMap<&'a str, (ExternalKind, u32)>),
}

#[derive(Clone)]
enum CoreFunction<'a> {
    Export(Exported<'a>),
    Lowered {
        function: u32,
        options: Vec<CanonicalOption>,
    },
    Other,
}

#[derive(Clone, Copy)]
enum Function<'a> {
    /// A function of an imported instance.
    Imported {
        instance: u32,
        name: &'a str,
    },
    Lifted(u32),
    Other,
}

/// Returns the bytes of a component's only guest module, or the reason why it must run as a component.
pub(super) fn unwrap(bytes: &[u8]) -> Result<Result<Vec<u8>, &'static str>, LoadError> {
    features::validate_component(bytes)?;
    let wiring = match Wiring::read(bytes)? {
        Ok(wiring) => wiring,
        Err(why) => return Ok(Err(why)),
    };
    let (mut guest, mut between) = (None, Vec::new());
    for (index, range) in (0..).zip(&wiring.modules) {
        let bytes = &bytes[range.clone()];
        let is_between = Between::read(bytes);
        if is_between.is_none() && guest.replace(index).is_some() {
            return Ok(Err("it has several core modules"));
        }
        between.push(is_between);
    }
    let Some(module) = guest else {
        return Ok(Err("it has no core module"));
    };
    let module_bytes = &bytes[wiring.modules[module as usize].clone()];
    let analysis = Analysis::read(module_bytes)?;
    let wrapper = Wrapper::find(&wiring, &between);
    if !wrapper.is_some_and(|wrapper| wrapper.adds_nothing(&analysis)) {
        return Ok(Err("its core module alone is not known to mean the same"));
    }
    Ok(Ok(module_bytes.to_vec()))
}

/// A component's instances, all of which are of the kinds that wit-component makes.
struct Wrapper<'a> {
    wiring: &'a Wiring<'a>,
    /// The guest's instance and its arguments.
    guest: u32,
    arguments: &'a [(&'a str, u32)],
    shim: Option<(u32, &'a between::Shim)>,
    /// The fixup, and the instance with the functions that it puts into the table.
    fixup: Option<(&'a between::Fixup, u32)>,
    /// The instance with the function that the starter calls.
    starter: Option<u32>,
}

impl<'a> Wrapper<'a> {
    fn find(wiring: &'a Wiring<'a>, between: &'a [Option<Between>]) -> Option<Wrapper<'a>> {
        let mut wrapper = Wrapper {
            wiring,
            guest: 0,
            arguments: &[],
            shim: None,
            fixup: None,
            starter: None,
        };
        let mut has_guest = false;
        for (index, instance) in (0..).zip(&wiring.core_instances) {
            let CoreInstance::Module { module, arguments } = instance else {
                continue;
            };
            let only_argument = || match arguments[..] {
                [("", from)] => Some(from),
                _ => None,
            };
            // There is at most one of each.
            let is_second = match between.get(*module as usize)? {
                None => {
                    wrapper.guest = index;
                    wrapper.arguments = arguments;
                    std::mem::replace(&mut has_guest, true)
                }
                Some(Between::Shim(shim)) => wrapper.shim.replace((index, shim)).is_some(),
                Some(Between::Fixup(fixup)) => {
                    let from = only_argument()?;
                    wrapper.fixup.replace((fixup, from)).is_some()
                }
                Some(Between::Starter) => wrapper.starter.replace(only_argument()?).is_some(),
            };
            if is_second {
                return None;
            }
        }
        has_guest.then_some(wrapper)
    }

    /// Does the component add nothing but types to its module?
    fn adds_nothing(&self, analysis: &Analysis) -> bool {
        let imports_match = analysis.imports.iter().all(|import| {
            let mut arguments = self.arguments.iter();
            let argument = arguments.find(|(name, _)| *name == import.module);
            import.contract.is_some()
                && argument
                    .is_some_and(|(_, from)| self.provides(*from, &import.module, &import.name))
        });
        let exports = &self.wiring.exports;
        let exports_match = exports.iter().all(|(name, function)| {
            let function =
                function.and_then(|function| self.wiring.functions.get(function as usize));
            let Some(Function::Lifted(core)) = function else {
                return false;
            };
            self.is_guests(*core, name)
        });
        let initializes = match self.starter {
            None => false,
            Some(from) => match self.wiring.exported(from, "", ExternalKind::Func) {
                Some(core) if self.is_guests(core, "_initialize") => true,
                _ => return false,
            },
        };
        // A process could be spawned from any other export of the bare module by its name.
        imports_match
            && exports_match
            && initializes == analysis.initialize.is_some()
            && exports.iter().any(|(name, _)| *name == "run")
    }

    /// Is this core function the guest's export with that name?
    fn is_guests(&self, core: u32, name: &str) -> bool {
        let function = self.wiring.core_functions.get(core as usize);
        matches!(function, Some(CoreFunction::Export(export)) if *export == (self.guest, name))
    }

    /// Is `function` of this core instance the contract's function with that name?
    fn provides(&self, instance: u32, interface: &str, function: &str) -> bool {
        let core = self.wiring.exported(instance, function, ExternalKind::Func);
        let core = core.and_then(|core| self.wiring.core_functions.get(core as usize));
        match core {
            Some(CoreFunction::Export((from, name))) => {
                let lowered = self.behind_shim(*from, name);
                lowered.is_some_and(|lowered| self.is_import(lowered, interface, function))
            }
            Some(lowered) => self.is_import(lowered, interface, function),
            None => false,
        }
    }

    /// The function that the fixup has put where this function of the shim calls.
    fn behind_shim(&self, instance: u32, name: &str) -> Option<&CoreFunction<'a>> {
        let (shim_instance, shim) = self.shim?;
        let (fixup, filler) = self.fixup?;
        let table = self.wiring.exported(filler, TABLE, ExternalKind::Table)?;
        let table = self.wiring.core_tables.get(table as usize)?;
        if instance != shim_instance || *table != (shim_instance, TABLE) {
            return None;
        }
        let put_there = fixup.get(*shim.get(name)? as usize)?;
        let core = self
            .wiring
            .exported(filler, put_there, ExternalKind::Func)?;
        self.wiring.core_functions.get(core as usize)
    }

    fn is_import(&self, core: &CoreFunction<'a>, interface: &str, name: &str) -> bool {
        let CoreFunction::Lowered { function, options } = core else {
            return false;
        };
        let are_usual = options.iter().all(|option| match option {
            CanonicalOption::UTF8 => true,
            CanonicalOption::Memory(memory) => {
                let memory = self.wiring.core_memories.get(*memory as usize);
                memory == Some(&(self.guest, "memory"))
            }
            CanonicalOption::Realloc(realloc) => self.is_guests(*realloc, "cabi_realloc"),
            _ => false,
        });
        match self.wiring.functions.get(*function as usize) {
            Some(Function::Imported { instance, name: of }) => {
                let from = self.wiring.instances.get(*instance as usize).copied();
                are_usual && *of == name && from.flatten() == Some(interface)
            }
            _ => false,
        }
    }
}

impl<'a> Wiring<'a> {
    fn read(bytes: &'a [u8]) -> Result<Result<Wiring<'a>, &'static str>, LoadError> {
        let mut wiring = Wiring::default();
        // The parser also returns payloads of nested modules. Only the component's own count.
        let mut inside = 0u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version {
                    encoding: Encoding::Module,
                    ..
                } => inside += 1,
                Payload::End(_) => inside = inside.saturating_sub(1),
                _ if inside > 0 => {}
                Payload::ModuleSection {
                    unchecked_range, ..
                } => wiring.modules.push(unchecked_range),
                Payload::ComponentSection { .. } => {
                    return Ok(Err("it consists of several components"));
                }
                payload => {
                    if let Err(why) = wiring.section(payload)? {
                        return Ok(Err(why));
                    }
                }
            }
        }
        Ok(Ok(wiring))
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<Result<(), &'static str>, LoadError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.core_instances
                        .push(core_instance(instance.map_err(invalid)?));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(alias.map_err(invalid)?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.canonical_function(function.map_err(invalid)?);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if let Err(why) = self.import(&import.map_err(invalid)?) {
                        return Ok(Err(why));
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for _ in 0..section.count() {
                    self.instances.push(None);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    self.export(&export.map_err(invalid)?);
                }
            }
            Payload::ComponentStartSection { .. } => return Ok(Err("it has a start function")),
            _ => {}
        }
        Ok(Ok(()))
    }

    fn canonical_function(&mut self, function: CanonicalFunction) {
        match function {
            CanonicalFunction::Lift {
                core_func_index,
                options,
                ..
            } => {
                // UTF-8 changes nothing for a function without parameters and results. Another option might.
                let mut options = options.iter();
                let is_plain = options.all(|option| *option == CanonicalOption::UTF8);
                self.functions.push(match is_plain {
                    true => Function::Lifted(core_func_index),
                    false => Function::Other,
                });
            }
            CanonicalFunction::Lower {
                func_index,
                options,
            } => self.core_functions.push(CoreFunction::Lowered {
                function: func_index,
                options: options.into(),
            }),
            _ => self.core_functions.push(CoreFunction::Other),
        }
    }

    fn import(&mut self, import: &ComponentImport<'a>) -> Result<(), &'static str> {
        match import.ty {
            ComponentTypeRef::Instance(_) if import.name.name.starts_with(abi::PACKAGE) => {
                self.instances.push(Some(import.name.name));
                Ok(())
            }
            _ => Err("it imports interfaces other than the contract's"),
        }
    }

    fn export(&mut self, export: &ComponentExport<'a>) {
        let function = (export.kind == ComponentExternalKind::Func).then_some(export.index);
        self.exports.push((export.name.name, function));
        // An export has an index of its own, through which the component can export it again.
        match export.kind {
            ComponentExternalKind::Func => {
                let same = self.functions.get(export.index as usize).copied();
                self.functions.push(same.unwrap_or(Function::Other));
            }
            ComponentExternalKind::Instance => self.instances.push(None),
            _ => {}
        }
    }

    fn alias(&mut self, alias: ComponentAlias<'a>) {
        match alias {
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Func,
                instance_index,
                name,
            } => {
                self.functions.push(Function::Imported {
                    instance: instance_index,
                    name,
                });
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Instance,
                ..
            } => self.instances.push(None),
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func,
                instance_index,
                name,
            } => {
                let export = (instance_index, name);
                self.core_functions.push(CoreFunction::Export(export));
            }
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Memory,
                instance_index,
                name,
            } => self.core_memories.push((instance_index, name)),
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Table,
                instance_index,
                name,
            } => self.core_tables.push((instance_index, name)),
            _ => {}
        }
    }

    /// The index that an instance made of exports has under this name.
    fn exported(&self, instance: u32, name: &str, kind: ExternalKind) -> Option<u32> {
        match self.core_instances.get(instance as usize)? {
            CoreInstance::Exports(exports) => {
                let (found, index) = exports.get(name)?;
                (*found == kind).then_some(*index)
            }
            CoreInstance::Module { .. } => None,
        }
    }
}

fn core_instance(instance: Instance<'_>) -> CoreInstance<'_> {
    match instance {
        Instance::Instantiate { module_index, args } => CoreInstance::Module {
            module: module_index,
            arguments: args
                .iter()
                .map(|argument| (argument.name, argument.index))
                .collect(),
        },
        Instance::FromExports(exports) => {
            let exports = exports.iter();
            CoreInstance::Exports(
                exports
                    .map(|export| (export.name, (export.kind, export.index)))
                    .collect(),
            )
        }
    }
}

fn invalid(error: wasmparser::Error) -> LoadError {
    LoadError::quoting(LoadErrorKind::Invalid, &error)
}
