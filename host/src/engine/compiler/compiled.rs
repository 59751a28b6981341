//! The two kinds of compiled code, modules and components, as the cache and the compiler see them.

use super::worker::CompileKind;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// The kinds of compiled code: modules and components.
pub(in crate::engine) trait Compiled: Sized {
    const KIND: CompileKind;

    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;

    fn serialize(&self) -> wasmtime::Result<Vec<u8>>;

    /// # Safety
    ///
    /// The bytes come from [`Compiled::serialize`], `Engine::precompile_module` or `Engine::precompile_component`, with
    /// an engine of the same settings.
    unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Self>;
}

impl Compiled for Module {
    const KIND: CompileKind = CompileKind::Module;

    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Module> {
        Module::new(engine, bytes)
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        Module::serialize(self)
    }

    unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Module> {
        // SAFETY: the caller promises the same.
        unsafe { Module::deserialize(engine, bytes) }
    }
}

impl Compiled for Component {
    const KIND: CompileKind = CompileKind::Component;

    fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::new(engine, bytes)
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        Component::serialize(self)
    }

    unsafe fn deserialize(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the caller promises the same.
        unsafe { Component::deserialize(engine, bytes) }
    }
}
