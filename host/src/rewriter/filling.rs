//! Large data segments, which the process writes itself.
//!
//! Making an instance is one step of the parent's turn, and it writes all data of the module, even fifty megabytes. So the
//! rewriter makes the segments of a module with much data passive, if they lie within its memories. The process begins by writing
//! them, piece by piece, on its own reductions. The other segments stay active and fail as they would have.

use super::counting::{Cost, Counter};
use super::initial::{Value, value};
use crate::abi::BYTES_PER_REDUCTION;
use wasm_encoder::Function;
use wasmparser::{Data, DataKind};

/// A module with less data keeps its active segments.
const DATA_BYTES_MAX: u64 = 1 << 20;
/// The process writes this many bytes at a time.
const PIECE_BYTES: u32 = 256 << 10;

/// The segments that the process may write.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    segments: Vec<Segment>,
    /// The number of segments read so far.
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
    /// Reads the next segment.
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

    /// Ends the reading. `memories` are the initial sizes of the module's memories.
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

    /// Does the process write any segment?
    pub(super) fn is_some(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Does the process write the segment with this index?
    pub(super) fn has(&self, index: u32) -> bool {
        let found = |segment: &Segment| segment.index.cmp(&index);
        self.segments.binary_search_by(found).is_ok()
    }

    /// The number of segments in the module.
    pub(super) fn count(&self) -> u32 {
        self.seen
    }

    /// The function that writes all these segments and then drops them, as instantiation drops active segments.
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
