//! A round as a folder: its settings and its attackers. A parent writes it, a child reads it, and a finding keeps it.

use super::attackers::{Attacker, Own};
use super::dice::Dice;
use crate::Failure;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const SETTINGS: &str = "round.json";

/// The settings of a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    pub seed: u64,
    /// How long attackers and canaries run side by side.
    pub milliseconds: u64,
    pub schedulers: usize,
    pub reductions: u32,
    /// None: no process is hibernated.
    pub hibernate_after_ms: Option<u64>,
    pub poison: bool,
    /// Attackers that the host spawns begin trees with limits.
    #[serde(default)]
    pub trees: bool,
    /// Attackers may inspect and suspend processes. Canaries would suffer by right, so there are none.
    #[serde(default)]
    pub tools: bool,
    /// The files of the attackers. The beginning of a name is the attacker's kind.
    pub attackers: Vec<String>,
    /// The file of the user's own program among the canaries.
    pub canary: Option<String>,
}

impl Round {
    /// Chooses the settings and the attackers of a round, and writes them to a new folder.
    pub fn make(
        seed: u64,
        folder: &Path,
        own: &Own,
        canary: Option<&[u8]>,
    ) -> Result<Round, Failure> {
        let mut dice = Dice::new(seed);
        let mut round = Round {
            seed,
            milliseconds: 700 + dice.below(600),
            schedulers: 1 + dice.below(2) as usize,
            reductions: *dice.pick(&[4000, 4000, 4000, 500, 50]),
            hibernate_after_ms: *dice.pick(&[Some(0), Some(0), Some(2), Some(10_000), None]),
            poison: dice.percent(50),
            trees: dice.percent(50),
            tools: canary.is_none() && dice.percent(15),
            attackers: Vec::new(),
            canary: None,
        };
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        for number in 0..6 + dice.below(10) {
            let attacker = Attacker::make(&mut dice, own, round.tools);
            let name = format!("{}-{number}.wasm", attacker.kind);
            write(&folder.join(&name), &attacker.bytes)?;
            round.attackers.push(name);
        }
        if let Some(bytes) = canary {
            let name = "canary.wasm".to_owned();
            write(&folder.join(&name), bytes)?;
            round.canary = Some(name);
        }
        round.write(folder)?;
        Ok(round)
    }

    /// Writes the settings to a folder.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(format!("a round can't be written: {error}")))?;
        write(&folder.join(SETTINGS), &text)
    }

    /// Reads the settings from a folder.
    pub fn read(folder: &Path) -> Result<Round, Failure> {
        let path = folder.join(SETTINGS);
        let text = fs::read(&path).map_err(|error| {
            Failure::new(format!("{} can't be read: {error}", path.display()))
                .hint("give a folder that `atoll fuzz` has saved")
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    }

    /// Writes the same round with some of the attackers only to another folder.
    pub fn copy(&self, from: &Path, to: &Path, attackers: &[String]) -> Result<Round, Failure> {
        fs::create_dir_all(to).map_err(|error| cannot_write(to, &error))?;
        let round = Round {
            attackers: attackers.to_vec(),
            ..self.clone()
        };
        for file in attackers.iter().chain(&round.canary) {
            fs::copy(from.join(file), to.join(file)).map_err(|error| cannot_write(to, &error))?;
        }
        round.write(to)?;
        Ok(round)
    }
}

pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} can't be written: {error}", path.display()))
        .hint("atoll fuzz works in the system's folder for temporary files (TMPDIR)")
}
