//! What a module may consist of at most, so that loading it takes time and memory in proportion to its size, and what its
//! instances take beside their memories.
//!
//! The compiler's work grows with more than a module's bytes: sixteen kilobytes can declare a hundred million locals. Each
//! bound is many times what compilers emit; an error says which function, and how much is allowed.

use super::error::{LoadError, LoadErrorKind};
use wasmparser::{Element, ElementItems};

/// Locals of all functions together. A compiler for C, itself compiled, has half a million.
const LOCALS_MAX: u64 = 4_000_000;
/// Imports. Real modules have a hundred or two.
const IMPORTS_MAX: u32 = 10_000;
/// Memories of one module. An instance may have fewer.
const MEMORIES_MAX: u32 = 100;
/// Functions that a table or an export may mention: each has code by which the host could call it.
const MENTIONED_MAX: u64 = 200_000;
/// Text is read with seventy times its size of memory.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 20;

/// What wasmtime keeps in an instance: for a global, for a function that can be called otherwise than directly, for a place of a
/// table.
const GLOBAL_BYTES: u64 = 16;
const MENTIONED_BYTES: u64 = 32;
pub(crate) const TABLE_PLACE_BYTES: u64 = 8;
/// So much of that is every instance's, and not counted.
const INSTANCE_BYTES_FREE: u64 = 16 << 10;

/// The counts of a module's parts that are read so far.
#[derive(Default, Debug)]
pub(super) struct Bounds {
    locals: u64,
    imports: u32,
    memories: u32,
    mentioned: u64,
    globals: u64,
}

impl Bounds {
    pub(super) fn import(&mut self) -> Result<(), LoadError> {
        self.imports += 1;
        refuse_above(self.imports.into(), IMPORTS_MAX.into(), || "imports".into())
    }

    pub(super) fn memory(&mut self) -> Result<(), LoadError> {
        self.memories += 1;
        refuse_above(self.memories.into(), MEMORIES_MAX.into(), || {
            "memories".into()
        })
    }

    pub(super) fn global(&mut self) {
        self.globals += 1;
    }

    /// Functions that an export or an element segment mentions.
    pub(super) fn mentioned(&mut self, functions: u64) -> Result<(), LoadError> {
        self.mentioned = self.mentioned.saturating_add(functions);
        refuse_above(self.mentioned, MENTIONED_MAX, || {
            "functions that tables or exports mention".into()
        })
    }

    /// The locals of the function with this index.
    pub(super) fn locals(&mut self, function: u32, locals: u64) -> Result<(), LoadError> {
        self.locals = self.locals.saturating_add(locals);
        refuse_above(self.locals, LOCALS_MAX, || {
            format!("locals in its functions up to function {function}, which has {locals}")
        })
    }

    /// What an instance takes beside its memories and tables, in bytes, if that is more than every instance may take.
    pub(super) fn instance_bytes(&self) -> u64 {
        if_much(self.globals * GLOBAL_BYTES + self.mentioned * MENTIONED_BYTES)
    }

    /// The same if nothing is left of what the module mentions.
    pub(super) fn instance_bytes_without_mentions(&self) -> u64 {
        if_much(self.globals * GLOBAL_BYTES)
    }
}

/// How many functions an element segment mentions, at most.
pub(super) fn count_elements(element: &Element<'_>) -> u64 {
    let count = match &element.items {
        ElementItems::Functions(functions) => functions.count(),
        ElementItems::Expressions(_, expressions) => expressions.count(),
    };
    count.into()
}

fn if_much(bytes: u64) -> u64 {
    match bytes <= INSTANCE_BYTES_FREE {
        true => 0,
        false => bytes,
    }
}

fn refuse_above(found: u64, most: u64, what: impl FnOnce() -> String) -> Result<(), LoadError> {
    if found <= most {
        return Ok(());
    }
    let text = format!("{found} {}; the limit is {most}", what());
    Err(LoadError::new(LoadErrorKind::TooLarge, text))
}
