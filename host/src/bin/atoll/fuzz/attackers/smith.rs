//! Random valid modules, made by wasm-smith: their imports are drawn from what the host offers, their exports fit.

use super::functions::{self, Offer};
use crate::fuzz::dice::Dice;
use std::sync::OnceLock;
use wasm_smith::{Config, Module};

/// Random bytes from which a module is made.
const SEED_BYTES: u64 = 6000;
/// wasm-smith can't make a module of some seeds.
const ATTEMPTS: usize = 8;

/// The exports that a guest must have.
const EXPORTS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "run") unreachable)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#;

/// Makes a module.
pub fn make(dice: &mut Dice, offer: Offer) -> Vec<u8> {
    for _ in 0..ATTEMPTS {
        let bytes = 200 + dice.below(SEED_BYTES) as usize;
        let seed = dice.bytes(bytes);
        let mut unstructured = arbitrary::Unstructured::new(&seed);
        // A panic of wasm-smith's is none of the host's.
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Module::new(config(dice, offer), &mut unstructured).map(|module| module.to_bytes())
        }));
        if let Ok(Ok(bytes)) = made {
            return bytes;
        }
    }
    super::calls::make(dice, offer)
}

fn config(dice: &mut Dice, offer: Offer) -> Config {
    static IMPORTS: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
    static EXPORTED: OnceLock<Vec<u8>> = OnceLock::new();
    let imports = &IMPORTS[usize::from(offer.tools)];
    let imports = imports.get_or_init(|| functions::importing_module(offer));
    let exports = EXPORTED.get_or_init(|| wat::parse_str(EXPORTS).unwrap_or_default());
    Config {
        available_imports: dice.percent(80).then(|| imports.clone()),
        exports: Some(exports.clone()),
        allow_start_export: true,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        reference_types_enabled: dice.percent(25),
        max_imports: 20,
        max_instructions: *dice.pick(&[50, 300, 1500]),
        max_memories: 1 + dice.below(2) as usize,
        max_memory32_bytes: *dice.pick(&[1 << 16, 1 << 20, 1 << 32]),
        max_tables: 1 + dice.below(3) as usize,
        max_table_elements: *dice.pick(&[10, 1000, 1_000_000]),
        min_funcs: 2,
        ..Config::default()
    }
}
