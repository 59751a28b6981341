//! Attacks that were written by hand. Each of them has harmed a neighbour or the host once.

use crate::fuzz::dice::Dice;

/// Each attack: its name, and its text.
pub const CORPUS: [(&str, &str); 19] = [
    ("address-space", include_str!("corpus/address-space.wat")),
    (
        "component-strings",
        include_str!("corpus/component-strings.wat"),
    ),
    ("demonitor", include_str!("corpus/demonitor.wat")),
    ("down-bomb", include_str!("corpus/down-bomb.wat")),
    ("empty-pieces", include_str!("corpus/empty-pieces.wat")),
    ("fifo", include_str!("corpus/fifo.wat")),
    ("group-squat", include_str!("corpus/group-squat.wat")),
    ("hostile-names", include_str!("corpus/hostile-names.wat")),
    ("memory-hoard", include_str!("corpus/memory-hoard.wat")),
    ("name-bomb", include_str!("corpus/name-bomb.wat")),
    ("print-flood", include_str!("corpus/print-flood.wat")),
    ("spawn-bomb", include_str!("corpus/spawn-bomb.wat")),
    ("start-failures", include_str!("corpus/start-failures.wat")),
    ("timer-bomb", include_str!("corpus/timer-bomb.wat")),
    ("trap-storm", include_str!("corpus/trap-storm.wat")),
    ("unpaid", include_str!("corpus/unpaid.wat")),
    (
        "untouched-memories",
        include_str!("corpus/untouched-memories.wat"),
    ),
    (
        "zero-page-memory",
        include_str!("corpus/zero-page-memory.wat"),
    ),
    (
        "zero-page-second-memory",
        include_str!("corpus/zero-page-second-memory.wat"),
    ),
];

/// One of the attacks.
pub fn make(dice: &mut Dice) -> Vec<u8> {
    let (_, text) = dice.pick(&CORPUS);
    wat::parse_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_a_module_or_a_component() {
        for (name, text) in CORPUS {
            let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(bytes.starts_with(b"\0asm"), "{name}");
        }
    }
}
