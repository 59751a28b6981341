//! The bindings that `wit-bindgen` generates from the contract in `wit/`.
//!
//! Nothing here is written by hand. The items are documented by the contract. The other modules wrap the functions and re-export
//! the types.
#![allow(
    missing_docs,
    reason = "generated: what the contract documents is documented"
)]
#![allow(
    unused_macros,
    reason = "generated: `entry!` exports `run` itself, so that `main` can be a plain function"
)]
#![allow(clippy::undocumented_unsafe_blocks, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, reason = "generated")]

wit_bindgen::generate!({
    path: "../wit",
    world: "process",
    additional_derives: [PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize],
    // A selector contains flags, which serde can't carry. No program sends selectors.
    additional_derives_ignore: ["selector"],
});
