//! The contract's functions as core modules see them: the canonical ABI's lowering of `wit/`, as data.
//!
//! The loader checks imports against this table, the rewriter takes from it which imports need glue, and the linker
//! defines exactly these. Memory layouts are in [`layout`].

use wasmparser::ValType::{self, I32, I64};

/// The contract's package, as it stands in import names.
pub(crate) const PACKAGE: &str = "atoll:process/";
/// The module that rewritten imports come from. No guest may import from it itself.
pub(crate) const RAW_MODULE: &str = "atoll:raw";
/// Copies the bytes that a raw function announced to where glue has made room for them: `(pointer)`.
pub(crate) const RAW_TAKE: &str = "take";

/// How a function of the contract is carried out by the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// By one call, which does everything.
    Direct,
    /// By a call that may answer "again", when the process has to give up its turn first.
    Retry,
    /// The same, and it may leave a list, for which the guest's `cabi_realloc` has to make room.
    RetryThenList,
}

/// One function of the contract.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) interface: &'static str,
    pub(crate) name: &'static str,
    pub(crate) params: &'static [ValType],
    pub(crate) results: &'static [ValType],
    pub(crate) shape: Shape,
}

macro_rules! function {
    ($interface:literal $name:literal ($($param:ident)*) -> ($($result:ident)*) $shape:ident) => {
        Function {
            interface: concat!("atoll:process/", $interface, "@0.1.0"),
            name: $name,
            params: &[$($param),*],
            results: &[$($result),*],
            shape: Shape::$shape,
        }
    };
}

/// All of them.
pub(crate) const FUNCTIONS: &[Function] = &[
    function!("lifecycle" "self" (I32) -> () Direct),
    function!("lifecycle" "argument" (I32) -> () RetryThenList),
    function!("lifecycle" "exit" (I32 I32 I32) -> () Direct),
    function!("lifecycle" "is-alive" (I64 I64) -> (I32) Direct),
    function!("lifecycle" "yield-now" () -> () Retry),
    function!("mailbox" "send" (I64 I64 I32 I32 I64 I64 I32 I32 I32) -> () Retry),
    function!("mailbox" "receive" (I32 I64 I64 I32 I64 I32) -> () RetryThenList),
    function!("mailbox" "make-reference" (I32) -> () Direct),
    function!("spawning" "spawn" (I32 I32 I32 I32 I32 I32 I32 I32 I32 I32) -> () RetryThenList),
];

/// The function that a core module imports under these names.
pub(crate) fn function(module: &str, name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .iter()
        .find(|function| function.interface == module && function.name == name)
}

/// Where the canonical ABI puts things in memory. Checked against `wit/` by a test.
pub(crate) mod layout {
    /// `pid` and `reference`: two u64.
    pub(crate) const ID_BYTES: usize = 16;
    /// `result<pid, spawn-error>`.
    pub(crate) const SPAWN_RESULT_BYTES: usize = 24;
    /// `option<event>`.
    pub(crate) const OPTION_EVENT_BYTES: usize = 80;
    /// One element of `list<spawn-option>`.
    pub(crate) const SPAWN_OPTION_BYTES: usize = 24;
}

#[cfg(test)]
mod tests {
    use super::*;
    use wit_parser::abi::{AbiVariant, WasmType};
    use wit_parser::{Resolve, SizeAlign};

    fn contract() -> Resolve {
        let mut resolve = Resolve::default();
        resolve
            .push_str("process.wit", include_str!("../../../wit/process.wit"))
            .expect("the contract is well-formed");
        resolve
    }

    /// What the table says of every function is what the canonical ABI makes of the WIT, and none is left out.
    #[test]
    fn the_table_is_the_lowering_of_the_contract() {
        let resolve = contract();
        let mut lowered = Vec::new();
        for (id, interface) in &resolve.interfaces {
            for function in interface.functions.values() {
                let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                let types = |types: &[WasmType]| -> Vec<ValType> {
                    types
                        .iter()
                        .map(|ty| match ty {
                            WasmType::I64 | WasmType::PointerOrI64 => I64,
                            _ => I32,
                        })
                        .collect()
                };
                let module = resolve.id_of(id).expect("interfaces of a package have ids");
                lowered.push((
                    module,
                    function.name.clone(),
                    types(&signature.params),
                    types(&signature.results),
                ));
            }
        }
        lowered.sort_by_key(|(module, name, ..)| (module.clone(), name.clone()));
        let mut table: Vec<_> = FUNCTIONS
            .iter()
            .map(|function| {
                let owned = |types: &[ValType]| types.to_vec();
                (
                    function.interface.to_owned(),
                    function.name.to_owned(),
                    owned(function.params),
                    owned(function.results),
                )
            })
            .collect();
        table.sort_by_key(|(module, name, ..)| (module.clone(), name.clone()));
        assert_eq!(lowered, table);
    }

    #[test]
    fn the_layouts_are_those_of_the_contract() {
        let resolve = contract();
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let size_of_result = |interface: &str, function: &str| {
            let (_, interface) = resolve
                .interfaces
                .iter()
                .find(|(_, candidate)| candidate.name.as_deref() == Some(interface))
                .expect("the interface exists");
            let result = interface.functions[function]
                .result
                .expect("it returns something");
            sizes.size(&result).size_wasm32()
        };
        let size_of = |name: &str| {
            let (id, _) = resolve
                .types
                .iter()
                .find(|(_, ty)| ty.name.as_deref() == Some(name))
                .expect("the type exists");
            sizes.size(&wit_parser::Type::Id(id)).size_wasm32()
        };
        assert_eq!(size_of("pid"), layout::ID_BYTES);
        assert_eq!(size_of("reference"), layout::ID_BYTES);
        assert_eq!(size_of("spawn-option"), layout::SPAWN_OPTION_BYTES);
        assert_eq!(
            size_of_result("mailbox", "receive"),
            layout::OPTION_EVENT_BYTES
        );
        assert_eq!(
            size_of_result("spawning", "spawn"),
            layout::SPAWN_RESULT_BYTES
        );
    }
}
