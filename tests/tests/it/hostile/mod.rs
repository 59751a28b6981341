//! Hostile guests, and the properties that must hold beside them.
//!
//! | file | an attacker tries to |
//! |---|---|
//! | `limits` | use up what others need, or hold more of the host's memory than it may |
//! | `long_calls` | hold a scheduler by operations that cost more than is charged for them |
//! | `neighbours` | disturb a program that runs beside it: every attack, one row each |
//!
//! A test states a property that an honest guest may rely on. No test asserts a length of time: if a host call takes too
//! long, others get too few turns meanwhile.

mod limits;
mod long_calls;
mod neighbours;

use crate::wrap::Component;
use atoll_tests::{TIE_FUNCTIONS, TIES, tied_guest};

/// The same guest as a module and as a component, for both ways in which the contract is linked. `functions` are the
/// component's exports, separated by spaces.
fn both_kinds(functions: &str, body: &str) -> [(&'static str, Vec<u8>); 2] {
    let component = tied_component(functions, body);
    [
        ("a module", tied_guest(body).into_bytes()),
        ("a component", component),
    ]
}

/// A component with everything that [`tied_guest`] offers.
fn tied_component(functions: &str, body: &str) -> Vec<u8> {
    Component::printing_with(TIES, functions, &format!("{TIE_FUNCTIONS}\n{body}"))
}
