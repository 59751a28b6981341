//! The contract as a core module that imports all of it: for tools that make guests.

use super::FUNCTIONS;
use wasm_encoder::{EntityType, ImportSection, Module, TypeSection, ValType};

/// A core module that imports every function of the contract, with the names and types by which core modules import them.
pub fn contract_module() -> Vec<u8> {
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    let encoded = |types: &[wasmparser::ValType]| -> Vec<ValType> {
        let number = |of: &wasmparser::ValType| match of {
            wasmparser::ValType::I64 => ValType::I64,
            _ => ValType::I32,
        };
        types.iter().map(number).collect()
    };
    for (index, function) in (0..).zip(FUNCTIONS) {
        types
            .ty()
            .function(encoded(function.params), encoded(function.results));
        imports.import(
            function.interface,
            function.name,
            EntityType::Function(index),
        );
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    module.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_valid_and_imports_everything() {
        let module = contract_module();
        wasmparser::validate(&module).unwrap();
        let mut imports = 0;
        for payload in wasmparser::Parser::new(0).parse_all(&module) {
            if let wasmparser::Payload::ImportSection(section) = payload.unwrap() {
                imports = section.into_imports().count();
            }
        }
        assert_eq!(imports, FUNCTIONS.len());
    }
}
