//! Limits on a module's parts. They keep the time and memory of loading in proportion to the module's size, and they bound the
//! memory that an instance takes beside its linear memories.
//!
//! The compiler's work grows with more than a module's bytes: sixteen kilobytes can declare a hundred million locals. Each limit
//! is many times what compilers emit. An error names the function and the limit.

use super::error::{LoadError, LoadErrorKind};
use wasmparser::{Element, ElementItems};

/// Locals of all functions together. A C compiler compiled to wasm has half a million.
const LOCALS_MAX: u64 = 4_000_000;
/// Imports. Real modules have one or two hundred.
const IMPORTS_MAX: u32 = 10_000;
/// Memories of one module. The limit for an instance may be lower.
const MEMORIES_MAX: u32 = 100;
/// Functions that tables or exports mention. The compiler emits code for each, through which the host could call it.
const MENTIONED_MAX: u64 = 200_000;
/// The text parser takes seventy times the text's size in memory.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 20;

/// The bytes that wasmtime keeps in an instance for a global, for a function that a table or export mentions, and for a table
/// element.
const GLOBAL_BYTES: u64 = 16;
const MENTIONED_BYTES: u64 = 32;
pub(crate) const TABLE_ELEMENT_BYTES: u64 = 8;
/// This many bytes are free for every instance and aren't counted.
const INSTANCE_BYTES_FREE: u64 = 16 << 10;

/// The counts of the parts read so far.
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

    /// Adds functions that an export or an element segment mentions.
    pub(super) fn mentioned(&mut self, functions: u64) -> Result<(), LoadError> {
        self.mentioned = self.mentioned.saturating_add(functions);
        refuse_above(self.mentioned, MENTIONED_MAX, || {
            "functions that tables or exports mention".into()
        })
    }

    /// Adds the locals of the function with this index.
    pub(super) fn locals(&mut self, function: u32, locals: u64) -> Result<(), LoadError> {
        self.locals = self.locals.saturating_add(locals);
        refuse_above(self.locals, LOCALS_MAX, || {
            format!("locals in its functions up to function {function}, which has {locals}")
        })
    }

    /// The bytes that an instance takes beside its memories and tables; 0 if they are within the free amount.
    pub(super) fn instance_bytes(&self) -> u64 {
        if_much(self.globals * GLOBAL_BYTES + self.mentioned * MENTIONED_BYTES)
    }

    /// The same for a module whose mentions the rewriter removes.
    pub(super) fn instance_bytes_without_mentions(&self) -> u64 {
        if_much(self.globals * GLOBAL_BYTES)
    }
}

/// The number of functions that an element segment mentions, at most.
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
