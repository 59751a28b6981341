//! Much data, written by the process itself instead of when its instance is made.
//!
//! Making an instance is one step of its maker's turn, and writes all data of the module, be it fifty megabytes. So of a module
//! with much data the segments that lie within its memories are made passive, and the process begins with writing them, piece
//! by piece, on its own reductions. The others stay as they are, and fail as they would.

use super::counting::{Cost, Counter};
use super::initial::{Value, value};
use crate::abi::BYTES_PER_REDUCTION;
use wasm_encoder::Function;
use wasmparser::{Data, DataKind};

/// A module with less data has it written when an instance is made.
const DATA_BYTES_MAX: u64 = 1 << 20;
/// The process writes so many bytes at a stretch.
const PIECE_BYTES: u32 = 256 << 10;

/// The segments of a module that its processes may write.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    segments: Vec<Segment>,
    /// All segments seen.
    seen: u32,
    bytes: u64,
}

/// An active segment.
#[derive(Clone, Copy, Debug)]
struct Segment {
    index: u32,
    memory: u32,
    start: u32,
    bytes: u32,
}

impl Filling {
    /// The next segment.
    pub(super) fn data(&mut self, data: &Data<'_>) {
        let index = self.seen;
        self.seen += 1;
        self.bytes += data.data.len() as u64;
        if let DataKind::Active {
            memory_index,
            offset_expr,
        } = &data.kind
            && let Some(Value::I32(start)) = value(offset_expr)
        {
            self.segments.push(Segment {
                index,
                memory: *memory_index,
                start: start.cast_unsigned(),
                bytes: data.data.len() as u32,
            });
        }
    }

    /// All segments were seen, of a module whose memories begin with these sizes.
    pub(super) fn finish(&mut self, memories: &[u64]) {
        if self.bytes <= DATA_BYTES_MAX {
            self.segments.clear();
        }
        self.segments.retain(|segment| {
            let end = u64::from(segment.start) + u64::from(segment.bytes);
            let memory = memories.get(segment.memory as usize);
            memory.is_some_and(|bytes| end <= *bytes)
        });
    }

    /// Does the process write anything?
    pub(super) fn is_some(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Does it write the segment with this index?
    pub(super) fn has(&self, index: u32) -> bool {
        let found = |segment: &Segment| segment.index.cmp(&index);
        self.segments.binary_search_by(found).is_ok()
    }

    /// How many segments the module has.
    pub(super) fn count(&self) -> u32 {
        self.seen
    }

    /// The function that writes all of them. As after an instance is made, they are not there any more then.
    pub(super) fn function(&self, counter: &Counter) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        for segment in &self.segments {
            for from in (0..segment.bytes).step_by(PIECE_BYTES as usize) {
                let bytes = PIECE_BYTES.min(segment.bytes - from);
                counter.charge(&mut code, Cost::Of(u64::from(bytes) / BYTES_PER_REDUCTION));
                code.i32_const((segment.start + from).cast_signed());
                code.i32_const(from.cast_signed())
                    .i32_const(bytes.cast_signed());
                code.memory_init(segment.memory, segment.index);
            }
            code.data_drop(segment.index);
        }
        code.end();
        body
    }
}
