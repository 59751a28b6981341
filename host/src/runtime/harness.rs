//! A system for tests of wasm itself: its processes follow scripts. See [`crate::engine::harness`].

use super::System;
use crate::engine::harness::{Outcome, Script, Scriptable, Step};
use crate::process::ExitReason;
use crate::rewriter::LoadError;
use crate::system::{Config, Error, Program, Spawn, SpawnError};
use std::sync::{Arc, PoisonError};

/// A system whose processes perform steps.
pub struct Harness(System);

impl Harness {
    /// Starts a system whose slices have so many reductions.
    pub fn new(slice_reductions: u32) -> Result<Harness, Error> {
        System::new(Config {
            reductions: slice_reductions,
            max_memory: 4 << 30,
            cache: false,
            hibernate_after: None,
            ..Config::default()
        })
        .map(Harness)
    }

    /// Loads a module for the flattened path, or a component that exports core modules.
    pub fn load(&self, bytes: &[u8]) -> Result<Scriptable, LoadError> {
        self.0.0.engine.load_scriptable(bytes)
    }

    /// Runs a process of the program, and returns the results of its steps. If no process can be made, that is the result
    /// of the first step.
    pub fn run(&self, program: &Scriptable, steps: &Arc<[Step]>) -> Vec<Outcome> {
        let script = Script::new(steps.clone());
        let spawn = Spawn::new(&Program {
            runnable: program.with(script.clone()),
            options: None,
        });
        let ended = match self.0.spawn_watched(spawn) {
            Ok((_, watch)) => match watch.wait() {
                ExitReason::Normal => None,
                reason => Some(Outcome::Refused(format!("the process has ended: {reason}"))),
            },
            // An instance can trap before its process begins.
            Err(SpawnError::Other(text)) => Some(match text.split_once(": wasm trap: ") {
                Some((_, trap)) => Outcome::Trap(format!("wasm trap: {trap}")),
                None => Outcome::Refused(text),
            }),
            Err(error) => Some(Outcome::Refused(error.to_string())),
        };
        let mut outcomes = script
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        outcomes.extend(ended);
        std::mem::take(&mut *outcomes)
    }

    /// How often an instance was used again by another process.
    pub fn instances_used_again(&self) -> u64 {
        self.0.counters().recycled
    }
}
