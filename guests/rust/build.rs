//! Links a guest with a stack of 61 KiB.
//!
//! The default is 1 MiB in front of the data, of which a process touches the upper end only: that spreads each process
//! over more of the host's page tables. A guest that recurses deeply may want more.
//!
//! Not 64 KiB, because 61 end 1 KiB above the start of a page of the host (4 KiB). That is enough for a process that
//! waits, and the data begins in the same page: one page less for each process.

fn main() {
    println!("cargo:rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg-cdylib=-zstack-size=62464");
    }
}
