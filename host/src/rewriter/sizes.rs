//! The memory that an instance of a program takes at the start, computed without making one.

use super::bounds::{Bounds, count_elements};
use super::error::{LoadError, LoadErrorKind};
use wasmparser::{Encoding, ExternalKind, Instance, Parser, Payload};

const WASM_PAGE_BYTES: u64 = 64 << 10;
/// A process has at most this many instances, so a module in a nested component is counted this often.
const NESTED_INSTANCES_MAX: u64 = 64;

/// This many bytes of data are free for every program: the parent doesn't pay for writing them.
const DATA_BYTES_FREE: u64 = 64 << 10;

/// The bytes that an instance takes at the start.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sizes {
    /// The bytes of linear memories.
    pub(crate) memory_bytes: u64,
    /// The bytes of the rest of the instance; 0 if they are few.
    pub(crate) instance_bytes: u64,
    /// The bytes of data. They lie in the linear memories.
    pub(crate) data_bytes: u64,
}

impl Sizes {
    pub(crate) fn all_bytes(self) -> u64 {
        self.memory_bytes.saturating_add(self.instance_bytes)
    }

    /// The bytes that instantiation writes, beyond the free amount.
    pub(crate) fn written_bytes(self) -> u64 {
        let data_bytes = self.data_bytes.saturating_sub(DATA_BYTES_FREE);
        self.instance_bytes.saturating_add(data_bytes)
    }

    fn add(&mut self, other: Sizes) {
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.instance_bytes = self.instance_bytes.saturating_add(other.instance_bytes);
        self.data_bytes = self.data_bytes.saturating_add(other.data_bytes);
    }
}

/// The sizes of all core instances of a valid component together, as far as they are known. Memories of instances in nested
/// components count once. Its modules are held to the same bounds as other modules.
pub(super) fn of_component(bytes: &[u8]) -> Result<Sizes, LoadError> {
    // The modules of the outermost component, by index.
    let mut modules: Vec<Sizes> = Vec::new();
    let mut total = Sizes::default();
    let mut module: Option<Module> = None;
    let mut component_depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } => module = Some(Module::default()),
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => component_depth += 1,
            Payload::End(_) => match module.take() {
                Some(module) if component_depth == 1 => modules.push(module.sizes()),
                Some(module) => {
                    let mut sizes = module.sizes();
                    sizes.instance_bytes =
                        sizes.instance_bytes.saturating_mul(NESTED_INSTANCES_MAX);
                    total.add(sizes);
                }
                None => component_depth -= 1,
            },
            Payload::InstanceSection(section) if component_depth == 1 => {
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(invalid)? {
                        total.add(
                            modules
                                .get(module_index as usize)
                                .copied()
                                .unwrap_or_default(),
                        );
                    }
                }
            }
            payload => {
                if let Some(module) = &mut module {
                    module.section(payload)?;
                }
            }
        }
    }
    Ok(total)
}

/// A module inside of a component.
#[derive(Default)]
struct Module {
    memory_bytes: u64,
    data_bytes: u64,
    bounds: Bounds,
    bodies: u32,
}

impl Module {
    fn section(&mut self, payload: Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    import.map_err(invalid)?;
                    self.bounds.import()?;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.bounds.memory()?;
                    let pages = memory.map_err(invalid)?.initial;
                    let bytes = pages.saturating_mul(WASM_PAGE_BYTES);
                    self.memory_bytes = self.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::GlobalSection(section) => {
                (0..section.count()).for_each(|_| self.bounds.global());
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let kind = export.map_err(invalid)?.kind;
                    self.bounds.mentioned((kind == ExternalKind::Func).into())?;
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    self.bounds
                        .mentioned(count_elements(&element.map_err(invalid)?))?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let mut locals = 0;
                for local in body.get_locals_reader().map_err(invalid)? {
                    locals += u64::from(local.map_err(invalid)?.0);
                }
                self.bounds.locals(self.bodies, locals)?;
                self.bodies += 1;
            }
            Payload::DataSection(section) => {
                for data in section {
                    self.data_bytes += data.map_err(invalid)?.data.len() as u64;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            memory_bytes: self.memory_bytes,
            instance_bytes: self.bounds.instance_bytes(),
            data_bytes: self.data_bytes,
        }
    }
}

fn invalid(error: wasmparser::Error) -> LoadError {
    LoadError::quoting(LoadErrorKind::Invalid, &error)
}
