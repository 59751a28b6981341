//! The contract of `wit/`: its functions, once, and their two linkings.
//!
//! [`functions`] says what each does, over a process and its system. [`core`] links them as core functions, in the
//! canonical ABI's shapes, for the flattened path; [`component`] links the same ones for real components. Nothing
//! here knows about scheduling: a function that can't go on says so, and the process pauses.

mod component;
mod core;
mod functions;

use crate::engine::Contract;

/// The linkers of these functions. The runtime hands them to the engine.
pub(crate) const LINKERS: Contract = Contract {
    link_modules: core::link,
    link_components: component::link,
};
