//! Attackers: modules that try to harm the host or their neighbours, or just happen to.
//!
//! | kind | made by |
//! |---|---|
//! | `calls` | [`calls`]: host calls with every edge of their operands |
//! | `component` | [`components`]: the same in a component |
//! | `smith` | [`smith`]: wasm-smith, random valid modules with random calls |
//! | `mutant` | [`mutants`]: wasm-mutate, from the canaries, the corpus, or the user's own program |
//! | `corpus` | [`corpus`]: attacks that were written by hand |
//! | `scavenger` | [`scavenger`]: leaves marked bytes behind, and looks for those that others have left |
//! | `own` | the user's own program |

pub mod calls;
pub mod corpus;
pub mod functions;
pub mod scavenger;

mod components;
mod mutants;
mod operands;
mod smith;

use super::dice::Dice;
use functions::Offer;
use std::path::PathBuf;

/// A module, and how it was made.
pub struct Attacker {
    /// The kind. It is the beginning of the program's name.
    pub kind: &'static str,
    pub bytes: Vec<u8>,
}

/// The user's own programs among the attackers.
#[derive(Default)]
pub struct Own(pub Vec<(PathBuf, Vec<u8>)>);

impl Attacker {
    /// Makes an attacker.
    /// `tools` says whether it may import the functions of tools.
    pub fn make(dice: &mut Dice, own: &Own, tools: bool) -> Attacker {
        let offer = Offer { tools, wasi: true };
        let (kind, bytes) = match dice.below(100) {
            0..20 if !own.0.is_empty() => match dice.percent(30) {
                true => ("own", dice.pick(&own.0).1.clone()),
                false => {
                    let (_, original) = dice.pick(&own.0);
                    ("mutant", mutants::of(dice, original))
                }
            },
            0..42 => ("calls", calls::make(dice, offer)),
            42..48 => ("component", components::make(dice, tools)),
            48..62 => ("smith", smith::make(dice, offer)),
            62..74 => ("mutant", mutants::make(dice)),
            74..82 => ("corpus", corpus::make(dice)),
            _ => ("scavenger", scavenger::make(dice)),
        };
        Attacker { kind, bytes }
    }
}
