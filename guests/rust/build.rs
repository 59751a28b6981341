//! Links a guest with a stack of 61 KiB.
//!
//! By default the stack is 1 MiB and lies in front of the data. A process touches only its upper end, so each process spreads
//! over more of the host's page tables. A guest that recurses deeply may want a larger stack.
//!
//! The size is not 64 KiB, because 61 KiB end 1 KiB above the start of a page of the host (4 KiB). That kilobyte is enough
//! for a process that waits, and the data begins in the same page, so each process takes one page less.

fn main() {
    println!("cargo:rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg-cdylib=-zstack-size=62464");
    }
}
