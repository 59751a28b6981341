//! Random modules and calls, by seed.

use anyhow::Result;
use arbitrary::Unstructured;
use atoll_rt::harness::Value;
use wasm_smith::{Config, InstructionKind, InstructionKinds, MemoryOffsetChoices, Module};

/// The most random bytes that a module is made of. They bound its size.
const MODULE_BYTES_MAX: u64 = 12 << 10;
const MODULE_BYTES_MIN: u64 = 1 << 10;

/// The loop edges and calls of all calls of a module that traps when they are used up.
const TERMINATION_FUEL: u32 = 2000;

/// A source of random numbers: SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Makes a module that uses no proposal but those that are on, and imports nothing. `is_valid` knows the proposals.
pub fn module(random: &mut Random, is_valid: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    loop {
        let count = MODULE_BYTES_MIN + random.below(MODULE_BYTES_MAX - MODULE_BYTES_MIN);
        let bytes: Vec<u8> = (0..count).map(|_| random.next() as u8).collect();
        let mut module = Module::new(config(random), &mut Unstructured::new(&bytes))?;
        // Random loops often go on for ever. Half of the modules trap when they have done some work.
        if random.below(2) == 0 {
            module.ensure_termination(TERMINATION_FUEL)?;
        }
        let module = module.to_bytes();
        // The generator makes `externref` with all other reference types.
        if is_valid(&module) {
            return Ok(module);
        }
    }
}

/// All instructions but those on tables and references.
const SIMPLE: [InstructionKind; 6] = [
    InstructionKind::Numeric,
    InstructionKind::Vector,
    InstructionKind::Parametric,
    InstructionKind::Variable,
    InstructionKind::Memory,
    InstructionKind::Control,
];

fn config(random: &mut Random) -> Config {
    // Only simple modules have instances that can be used again: they change no tables, drop no segments, have one memory and
    // a few numbers as globals. Data and bulk operations together would make the generator drop segments.
    let is_simple = random.below(2) == 0;
    let has_bulk = random.below(2) == 0;
    let has_data = !is_simple || !has_bulk;
    let memories_max = if is_simple { 1 } else { 3 };
    Config {
        canonicalize_nans: true,
        export_everything: true,
        // Most modules do not trap, so that their calls go further. The others often trap when they are instantiated.
        disallow_traps: random.below(4) != 0,
        allow_start_export: random.below(4) == 0,
        allowed_instructions: match is_simple {
            true => InstructionKinds::new(&SIMPLE),
            false => InstructionKinds::all(),
        },
        bulk_memory_enabled: has_bulk,
        reference_types_enabled: !is_simple,
        extended_const_enabled: !is_simple,
        simd_enabled: random.below(2) == 0,
        relaxed_simd_enabled: random.below(2) == 0,
        max_memories: memories_max,
        max_tables: memories_max,
        min_memories: (random.below(8) != 0).into(),
        max_globals: if is_simple { 3 } else { 12 },
        max_data_segments: if has_data { 6 } else { 0 },
        min_types: 4,
        min_funcs: 4,
        max_funcs: 12,
        max_instructions: 40 + random.below(200) as usize,
        max_types: 12,
        max_imports: 0,
        max_element_segments: 6,
        max_elements: 20,
        max_memory32_bytes: 8 << 16,
        memory_max_size_required: true,
        memory_offset_choices: MemoryOffsetChoices(90, 9, 1),
        max_table_elements: 100,
        table_max_size_required: true,
        // Off in Atoll.
        custom_descriptors_enabled: false,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        shared_everything_threads_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    }
}

/// A value for a parameter: often one at which results change.
pub fn value(random: &mut Random, ty: &wasmtime::ValType) -> Value {
    use wasmtime::ValType;
    match ty {
        ValType::I32 => Value::I32(integer(random) as i32),
        ValType::I64 => Value::I64(integer(random) as i64),
        ValType::F32 => Value::F32(match random.below(2) {
            0 => random.next() as u32,
            _ => (integer(random) as i32 as f32).to_bits(),
        }),
        ValType::F64 => Value::F64(match random.below(2) {
            0 => random.next(),
            _ => (integer(random) as i64 as f64).to_bits(),
        }),
        ValType::V128 => Value::V128(u128::from(random.next()) << 64 | u128::from(random.next())),
        ValType::Ref(_) => Value::Null,
    }
}

fn integer(random: &mut Random) -> u64 {
    const NEAR: [u64; 8] = [
        0,
        1,
        0x7f,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0xffff_ffff,
        1 << 63,
    ];
    match random.below(3) {
        0 => random.next(),
        1 => random.below(64),
        _ => {
            let near = NEAR[random.below(NEAR.len() as u64) as usize];
            near.wrapping_add(random.below(3)).wrapping_sub(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_module() {
        let make = |seed| module(&mut Random::new(seed), |_| true).expect("a module can be made");
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }
}
