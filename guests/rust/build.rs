//! Links a guest with a stack of 63 KiB.
//!
//! The default is 1 MiB in front of the data, of which a process touches the last page only: that spreads each process
//! over more of the host's page tables. A guest that recurses deeply may want more. 1 KiB less than 64 makes the upper
//! end of the stack and the beginning of the data share a page of the host, which is one page less for each process.

fn main() {
    println!("cargo:rerun-if-changed=../build.rs");
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo:rustc-link-arg-cdylib=-zstack-size=64512");
    }
}
