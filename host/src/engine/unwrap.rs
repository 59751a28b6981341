//! Components that only wrap one core module for this contract, and the module in them.
//!
//! Such a component is what wit-component makes of a core module: every import of the module is a lowered import of
//! the component by the same name, and every export of the component a lifted export of the module by the same name.
//! Then the module alone means the same, and runs on the flattened path. Modules of wit-component's own are between
//! the two where a lowering needs the memory of the module that imports it: a "shim" that calls through a table, and
//! one that fills the table. They are known by their `$imports`.

use super::abi;
use super::analysis::Analysis;
use super::error::{LoadError, LoadErrorKind};
use std::collections::HashMap;
use std::ops::Range;
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentTypeRef, Encoding,
    ExternalKind, Instance, Parser, Payload, Validator, WasmFeatures,
};

/// The index spaces of a component, as far as they matter here.
#[derive(Default)]
struct Wiring<'a> {
    modules: Vec<Range<usize>>,
    core_instances: Vec<CoreInstance<'a>>,
    core_functions: Vec<CoreFunction<'a>>,
    instances: Vec<Option<&'a str>>,
    functions: Vec<Function<'a>>,
    exports: Vec<(&'a str, Option<u32>)>,
}

enum CoreInstance<'a> {
    Module {
        module: u32,
        arguments: Vec<(&'a str, u32)>,
    },
    /// Functions by name; other things are left out.
    Functions(HashMap<&'a str, u32>),
}

#[derive(Clone, Copy)]
enum CoreFunction<'a> {
    Export { instance: u32, name: &'a str },
    Lowered(u32),
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

/// The bytes of the only guest in a component, or why it takes a real component to run it.
pub(super) fn unwrap(bytes: &[u8]) -> Result<Result<Vec<u8>, &'static str>, LoadError> {
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(bytes)
        .map_err(invalid)?;
    let wiring = match Wiring::read(bytes)? {
        Ok(wiring) => wiring,
        Err(why) => return Ok(Err(why)),
    };
    let mut guest = None;
    for (index, range) in (0..).zip(&wiring.modules) {
        let analysis = Analysis::read(&bytes[range.clone()])?;
        let is_shim = analysis.memory.is_none() && analysis.has_imports_table;
        if !is_shim && guest.replace((index, analysis)).is_some() {
            return Ok(Err("it has several core modules"));
        }
    }
    let Some((module, analysis)) = guest else {
        return Ok(Err("it has no core module"));
    };
    if !wiring.is_a_mere_wrapper(module, &analysis) {
        return Ok(Err("its core module's names are not the component's"));
    }
    Ok(Ok(bytes[wiring.modules[module as usize].clone()].to_vec()))
}

impl<'a> Wiring<'a> {
    fn read(bytes: &'a [u8]) -> Result<Result<Wiring<'a>, &'static str>, LoadError> {
        let mut wiring = Wiring::default();
        // Payloads of the modules inside come in between; only the component's own count.
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
                    match function.map_err(invalid)? {
                        CanonicalFunction::Lift {
                            core_func_index, ..
                        } => {
                            self.functions.push(Function::Lifted(core_func_index));
                        }
                        CanonicalFunction::Lower { func_index, .. } => {
                            self.core_functions.push(CoreFunction::Lowered(func_index));
                        }
                        _ => self.core_functions.push(CoreFunction::Other),
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(invalid)?;
                    match import.ty {
                        ComponentTypeRef::Instance(_)
                            if import.name.name.starts_with(abi::PACKAGE) =>
                        {
                            self.instances.push(Some(import.name.name));
                        }
                        _ => return Ok(Err("it imports interfaces other than the contract's")),
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
                    let export = export.map_err(invalid)?;
                    let function =
                        (export.kind == ComponentExternalKind::Func).then_some(export.index);
                    self.exports.push((export.name.name, function));
                    // What is exported can be named again, by an index of its own.
                    match export.kind {
                        ComponentExternalKind::Func => {
                            let same = self.functions.get(export.index as usize).copied();
                            self.functions.push(same.unwrap_or(Function::Other));
                        }
                        ComponentExternalKind::Instance => self.instances.push(None),
                        _ => {}
                    }
                }
            }
            Payload::ComponentStartSection { .. } => return Ok(Err("it has a start function")),
            _ => {}
        }
        Ok(Ok(()))
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
                self.core_functions.push(CoreFunction::Export {
                    instance: instance_index,
                    name,
                });
            }
            _ => {}
        }
    }

    /// Does the component add nothing to its module but types?
    fn is_a_mere_wrapper(&self, module: u32, analysis: &Analysis) -> bool {
        let mut instances = (0..)
            .zip(&self.core_instances)
            .filter_map(|(index, instance)| match instance {
                CoreInstance::Module {
                    module: of,
                    arguments,
                } if *of == module => Some((index, arguments)),
                _ => None,
            });
        let (Some((instance, arguments)), None) = (instances.next(), instances.next()) else {
            return false;
        };
        let imports_match = analysis.imports.iter().all(|import| {
            let argument = arguments.iter().find(|(name, _)| *name == import.module);
            import.contract.is_some()
                && argument
                    .is_some_and(|(_, from)| self.provides(*from, &import.module, &import.name))
        });
        let exports_match = self.exports.iter().all(|(name, function)| {
            let lifted = function.and_then(|function| self.functions.get(function as usize));
            let Some(Function::Lifted(core)) = lifted else {
                return false;
            };
            matches!(
                self.core_functions.get(*core as usize),
                Some(CoreFunction::Export { instance: of, name: core }) if *of == instance && core == name
            )
        });
        // What the module exports beyond that could be spawned by its name, as from a bare module.
        imports_match && exports_match && self.exports.iter().any(|(name, _)| *name == "run")
    }

    /// Is `function` of this core instance the contract's function of that name?
    fn provides(&self, instance: u32, interface: &str, function: &str) -> bool {
        let Some(CoreInstance::Functions(functions)) = self.core_instances.get(instance as usize)
        else {
            return false;
        };
        let provided = functions
            .get(function)
            .and_then(|index| self.core_functions.get(*index as usize));
        match provided {
            Some(CoreFunction::Lowered(lowered)) => self.is_import(*lowered, interface, function),
            // By way of the shim: the table behind it is filled with lowered functions under the same names.
            Some(CoreFunction::Export { name, .. }) => self.core_instances.iter().any(|filler| match filler {
                CoreInstance::Functions(functions) => matches!(
                    functions.get(name).and_then(|index| self.core_functions.get(*index as usize)),
                    Some(CoreFunction::Lowered(lowered)) if self.is_import(*lowered, interface, function)
                ),
                CoreInstance::Module { .. } => false,
            }),
            _ => false,
        }
    }

    fn is_import(&self, function: u32, interface: &str, name: &str) -> bool {
        match self.functions.get(function as usize) {
            Some(Function::Imported { instance, name: of }) => {
                *of == name
                    && self.instances.get(*instance as usize).copied().flatten() == Some(interface)
            }
            _ => false,
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
            let functions = exports
                .iter()
                .filter(|export| export.kind == ExternalKind::Func);
            CoreInstance::Functions(
                functions
                    .map(|export| (export.name, export.index))
                    .collect(),
            )
        }
    }
}

/// The first memories of all core instances of a component, in bytes together, as far as they can be told: instances
/// in components inside count once.
pub(super) fn memory_bytes_min(bytes: &[u8]) -> Result<u64, LoadError> {
    const WASM_PAGE_BYTES: u64 = 64 << 10;
    let mut memories: Vec<u64> = Vec::new();
    let mut total = 0u64;
    let mut module_depth = 0u32;
    let mut component_depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => {
                module_depth += 1;
                if component_depth == 1 {
                    memories.push(0);
                }
            }
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => component_depth += 1,
            Payload::End(_) if module_depth > 0 => module_depth -= 1,
            Payload::End(_) => component_depth -= 1,
            Payload::MemorySection(section) => {
                for memory in section {
                    let bytes = memory
                        .map_err(invalid)?
                        .initial
                        .saturating_mul(WASM_PAGE_BYTES);
                    match memories.last_mut() {
                        Some(module) if component_depth == 1 => {
                            *module = module.saturating_add(bytes)
                        }
                        _ => total = total.saturating_add(bytes),
                    }
                }
            }
            Payload::InstanceSection(section) if component_depth == 1 => {
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(invalid)? {
                        let bytes = memories.get(module_index as usize).copied().unwrap_or(0);
                        total = total.saturating_add(bytes);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(total)
}

fn invalid(error: wasmparser::Error) -> LoadError {
    LoadError::new(LoadErrorKind::Invalid, error.to_string())
}
