//! The engine: wasmtime, and everything about it.
//!
//! This room knows configuration, loading, rewriting, instances, fuel and slots. It never sees links, names or the
//! command line. The only `unsafe` of the project outside of the scheduler's queues is in [`slots`].

pub(crate) mod abi;
pub(crate) mod state;

mod analysis;
mod config;
mod error;
mod flatten;
mod initial;
mod inspect;
mod instance;
mod load;
mod recycling;
mod slots;
mod unwrap;

pub use error::{LoadError, LoadErrorKind};
pub use inspect::{Import, ImportStatus, Inspection, Path};
pub(crate) use instance::{FUEL, current_function};
pub(crate) use load::{Engine, Grants};
#[cfg(test)]
pub(crate) use slots::Slots;
