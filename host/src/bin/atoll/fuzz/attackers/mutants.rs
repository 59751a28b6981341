//! Mutants of real guests, made by wasm-mutate.

use super::corpus;
use super::functions::Offer;
use crate::fuzz::canaries;
use crate::fuzz::dice::Dice;
use wasm_mutate::WasmMutate;

/// How much work one mutation may take.
const FUEL: u64 = 200;

/// The functions that a mutant's original may import.
const ORDINARY: Offer = Offer {
    tools: false,
    wasi: true,
};

/// A mutant of a guest that comes with the program.
pub fn make(dice: &mut Dice) -> Vec<u8> {
    let original = match dice.below(4) {
        0 => corpus::make(dice),
        1 => super::calls::make(dice, ORDINARY),
        _ => canaries::PROGRAM.to_vec(),
    };
    of(dice, &original)
}

/// A mutant of this module; the module itself if it can't be mutated.
pub fn of(dice: &mut Dice, original: &[u8]) -> Vec<u8> {
    let mut mutant = original.to_vec();
    for _ in 0..1 + dice.below(6) {
        let mutated = {
            let mut mutate = WasmMutate::default();
            mutate.seed(dice.any()).preserve_semantics(false).fuel(FUEL);
            // A panic of wasm-mutate's is none of the host's.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                mutate
                    .run(&mutant)
                    .ok()
                    .and_then(|mut mutants| mutants.find_map(Result::ok))
            }))
        };
        if let Ok(Some(mutated)) = mutated {
            mutant = mutated;
        }
    }
    mutant
}
