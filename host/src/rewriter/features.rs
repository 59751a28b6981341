//! The list of WebAssembly proposals that are on.
//!
//! The validator, both engines, `atoll inspect` and the error texts all use this list. wasmtime turns some proposals on by
//! default that this build of it lacks (it is built without its `gc` feature). Its compiler may then emit calls of functions that
//! abort the host (GHSA-rc4p-x33f-vpr2). So no proposal is left to a default: `engine` turns every proposal that isn't on this
//! list off in wasmtime's configuration.

use super::error::{LoadError, LoadErrorKind};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::{Validator, WasmFeatures};

/// The proposals for core modules, including those inside of components.
pub(crate) const MODULES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .difference(WasmFeatures::GC_TYPES);

/// The same, and components.
pub(crate) const COMPONENTS: WasmFeatures = MODULES.union(WasmFeatures::COMPONENT_MODEL);

/// Validates a core module.
pub(super) fn validate_module(bytes: &[u8]) -> Result<(), LoadError> {
    validate(bytes, MODULES)
}

/// Validates a component and everything in it.
pub(super) fn validate_component(bytes: &[u8]) -> Result<(), LoadError> {
    validate(bytes, COMPONENTS)
}

/// Returns a test for names of exports that can be spawned: functions without parameters and results.
pub(crate) fn spawnable(bytes: &[u8]) -> impl Fn(&str) -> bool {
    let types = Validator::new_with_features(COMPONENTS).validate_all(bytes);
    move |name| {
        let Ok(types) = &types else {
            return false;
        };
        match types.component_item_for_export(name).map(|item| item.ty) {
            Some(ComponentEntityType::Func(function)) => {
                let function = &types[function];
                function.params.is_empty() && function.result.is_none()
            }
            _ => false,
        }
    }
}

fn validate(bytes: &[u8], features: WasmFeatures) -> Result<(), LoadError> {
    let with = |features| Validator::new_with_features(features).validate_all(bytes);
    let Err(error) = with(features) else {
        return Ok(());
    };
    // A file that is valid with all proposals on needs one that is off.
    let kind = match with(WasmFeatures::all()) {
        Ok(_) => LoadErrorKind::Unsupported,
        Err(_) => LoadErrorKind::Invalid,
    };
    Err(LoadError::quoting(kind, &error))
}

/// Example modules for the tests of this room and of the engine.
#[cfg(test)]
pub(crate) mod examples {
    /// A module for each proposal that is off, and for each instruction of function subtyping. The compiler would turn such an
    /// instruction into a call that aborts.
    pub(crate) const OFF: &[&str] = &[
        "(module (type (sub (func))))",
        "(module (type $b (sub (func))) (table 1 funcref) (func (call_indirect (type $b) (i32.const 0))))",
        "(module (type $b (sub (func))) (table 1 funcref) (func (return_call_indirect (type $b) (i32.const 0))))",
        "(module (type $b (func)) (func (drop (ref.cast (ref $b) (ref.null func)))))",
        "(module (type $b (func)) (func (drop (ref.test (ref $b) (ref.null func)))))",
        "(module (type $b (func)) (func (block (result (ref null $b)) \
            (br_on_cast 0 funcref (ref null $b) (ref.null func)) drop unreachable) drop))",
        "(module (type $b (func)) (func (block (result funcref) \
            (br_on_cast_fail 0 funcref (ref null $b) (ref.null func)) drop unreachable) drop))",
        "(module (rec (type (func)) (type (func))))",
        "(module (type (struct)))",
        "(module (type (array i8)))",
        "(module (func (param anyref)))",
        "(module (func (param i31ref)))",
        "(module (func (param externref)))",
        "(module (table 1 externref))",
        "(module (tag))",
        "(module (func (try_table)))",
        "(module (memory i64 1))",
        "(module (table i64 1 funcref))",
        "(module (memory 1 1 shared))",
        "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
        "(module (memory 1 1 (pagesize 1)))",
        "(module (func (drop (drop (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1))))))",
        "(module (type $f (func)) (type $c (cont $f)))",
    ];

    /// A module for each proposal that is on.
    pub(crate) const ON: &[&str] = &[
        "(module (func (return_call 0)))",
        "(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))",
        "(module (type $f (func)) (func (param (ref null $f)) (block (br_on_null 0 (local.get 0)) drop)))",
        "(module (memory 1) (memory 1) (func (memory.copy 0 1 (i32.const 0) (i32.const 0) (i32.const 1))))",
        "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))",
        "(module (table 1 funcref) (func (table.set (i32.const 0) (ref.null func))))",
        "(module (func (result i32 i32) (i32.const 1) (i32.const 2)))",
    ];

    /// Parses the text. Fails if the text parser doesn't know the proposal.
    pub(crate) fn binary(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::examples::{OFF, ON, binary};
    use super::*;

    #[test]
    fn proposals_that_are_off_are_refused_by_name() {
        for text in OFF {
            let bytes = binary(text);
            let error = validate_module(&bytes).expect_err(text);
            assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{text}: {error}");
        }
    }

    #[test]
    fn proposals_that_are_on_are_valid() {
        for text in ON {
            validate_module(&binary(text)).expect(text);
        }
    }

    #[test]
    fn modules_inside_of_components_are_held_to_the_same_list() {
        for text in OFF {
            let inside = text.replacen("(module", "(core module", 1);
            let bytes = binary(&format!("(component {inside})"));
            let error = validate_component(&bytes).expect_err(text);
            assert_eq!(error.kind(), LoadErrorKind::Unsupported, "{text}: {error}");
        }
    }

    #[test]
    fn code_that_is_wrong_with_every_proposal_is_invalid() {
        let bytes = binary("(module (func (drop)))");
        let error = validate_module(&bytes).expect_err("nothing can be dropped");
        assert_eq!(error.kind(), LoadErrorKind::Invalid);
    }
}
