//! The state of a core module's instance before its code runs, and whether the host can reset an instance to it.
//!
//! Code can change an instance's memories, its mutable globals, its tables, and which of its passive segments are dropped. The
//! host can reset memories and globals. If a module's code changes tables or drops segments, the host uses each instance once.

use std::ops::Range;
use wasmparser::{ConstExpr, Data, DataKind, Global, Operator, ValType};

/// The host doesn't reset more mutable globals than this. Compilers emit one or a few.
const GLOBALS_MAX: usize = 32;
/// The host doesn't reset more data than this. This bounds what stays resident of a free slot.
const DATA_BYTES_MAX: usize = 64 << 10;

/// The initial state of a module's instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Initial {
    /// The mutable globals, by index.
    pub(crate) globals: Vec<(u32, Value)>,
    /// The active data segments in their order: offset and bytes.
    pub(crate) segments: Vec<(usize, Box<[u8]>)>,
    pub(super) memories: u32,
    data_bytes: usize,
    /// The number of globals, mutable or not.
    pub(super) globals_seen: u32,
    obstacle: Option<&'static str>,
}

/// A number; floats as their bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
}

impl Initial {
    /// The reason why an instance can't be recycled, if there is one.
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        if self.memories > 1 {
            return Some("it has several memories");
        }
        self.obstacle
    }

    pub(super) fn prevent_recycling(&mut self, why: &'static str) {
        self.obstacle.get_or_insert(why);
    }

    pub(super) fn operator(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. } => self.prevent_recycling("it changes tables"),
            Operator::ElemDrop { .. } | Operator::DataDrop { .. } => {
                self.prevent_recycling("it drops segments");
            }
            _ => {}
        }
    }

    /// Reads the module's next global. A module that loads has no imported globals.
    pub(super) fn global(&mut self, global: &Global<'_>) {
        let index = self.globals_seen;
        self.globals_seen += 1;
        if !global.ty.mutable {
            return;
        }
        match value(&global.init_expr) {
            Some(value)
                if is_number(global.ty.content_type) && self.globals.len() < GLOBALS_MAX =>
            {
                self.globals.push((index, value));
            }
            Some(_) => self.prevent_recycling("it has many mutable globals"),
            None => self.prevent_recycling("it has a mutable global that is not simply a number"),
        }
    }

    pub(super) fn data(&mut self, data: &Data<'_>) {
        let DataKind::Active { offset_expr, .. } = &data.kind else {
            return;
        };
        let Some(Value::I32(offset)) = value(offset_expr) else {
            return self.prevent_recycling("its data's address is computed");
        };
        self.data_bytes = self.data_bytes.saturating_add(data.data.len());
        if self.data_bytes > DATA_BYTES_MAX {
            self.segments.clear();
            return self.prevent_recycling("it has much data");
        }
        self.segments
            .push((offset as u32 as usize, data.data.into()));
    }

    /// The number of bytes of all data.
    pub(crate) fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Does all data lie in this part of the memory?
    pub(crate) fn lies_within(&self, part: Range<usize>) -> bool {
        let lies_there = |(start, bytes): &(usize, Box<[u8]>)| {
            let end = start.checked_add(bytes.len());
            *start >= part.start && end.is_some_and(|end| end <= part.end)
        };
        self.segments.iter().all(lies_there)
    }

    /// The initial contents of this part of the memory. All data lies within the memory.
    pub(crate) fn bytes(&self, part: Range<usize>) -> Box<[u8]> {
        let mut held = vec![0; part.len()];
        for (at, bytes) in &self.segments {
            let start = part.start.max(*at);
            let end = part.end.min(at + bytes.len());
            if start < end {
                held[start - part.start..end - part.start]
                    .copy_from_slice(&bytes[start - at..end - at]);
            }
        }
        held.into()
    }
}

fn is_number(ty: ValType) -> bool {
    matches!(
        ty,
        ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64
    )
}

/// The value of an expression that is one constant.
pub(super) fn value(expression: &ConstExpr<'_>) -> Option<Value> {
    let mut operators = expression.get_operators_reader();
    let value = match operators.read().ok()? {
        Operator::I32Const { value } => Value::I32(value),
        Operator::I64Const { value } => Value::I64(value),
        Operator::F32Const { value } => Value::F32(value.bits()),
        Operator::F64Const { value } => Value::F64(value.bits()),
        _ => return None,
    };
    matches!(operators.read().ok()?, Operator::End).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::analysis::Analysis;
    use super::*;

    fn initial(text: &str) -> Initial {
        let bytes = wat::parse_str(text).expect("the text is a module");
        Analysis::read(&bytes).expect("the module is valid").initial
    }

    #[test]
    fn the_initial_state_is_read() {
        let initial = initial(
            "(module (memory 1)
               (global i32 (i32.const 1)) (global (mut i32) (i32.const -2)) (global (mut i64) (i64.const 3))
               (global (mut f32) (f32.const nan:0x200001)) (global (mut f64) (f64.const -0))
               (data (i32.const 4) \"abcd\") (data (i32.const 6) \"xy\") (data \"passive\"))",
        );
        assert_eq!(initial.obstacle(), None);
        let globals = [
            (1, Value::I32(-2)),
            (2, Value::I64(3)),
            (3, Value::F32(0x7fa0_0001)),
            (4, Value::F64(1 << 63)),
        ];
        assert_eq!(initial.globals, globals);
        assert_eq!(*initial.bytes(2..12), *b"\0\0abxy\0\0\0\0");
        assert_eq!(*initial.bytes(5..7), *b"bx");
        assert_eq!(*initial.bytes(8..10), *b"\0\0");
        assert!(initial.lies_within(4..8));
        assert!(!initial.lies_within(5..12) && !initial.lies_within(2..7));
    }

    #[test]
    fn obstacles_to_recycling_are_found() {
        let many = "(global (mut i32) (i32.const 0))".repeat(GLOBALS_MAX + 1);
        let large = format!(
            "(data (i32.const 0) \"{}\")",
            "x".repeat(DATA_BYTES_MAX + 1)
        );
        for (fields, obstacle) in [
            ("(memory 1) (memory 1)", "several memories"),
            (&*many, "many mutable globals"),
            (&*large, "much data"),
            (
                "(global (mut funcref) (ref.null func))",
                "not simply a number",
            ),
            (
                "(global (mut i32) (i32.add (i32.const 1) (i32.const 2)))",
                "not simply a number",
            ),
            (
                "(data (i32.add (i32.const 1) (i32.const 2)) \"x\")",
                "address is computed",
            ),
            (
                "(func (table.set (i32.const 0) (ref.null func)))",
                "changes tables",
            ),
            (
                "(func (drop (table.grow (ref.null func) (i32.const 1))))",
                "changes tables",
            ),
            (
                "(func (table.fill (i32.const 0) (ref.null func) (i32.const 1)))",
                "changes tables",
            ),
            (
                "(func (table.copy (i32.const 0) (i32.const 1) (i32.const 1)))",
                "changes tables",
            ),
            (
                "(func (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)))",
                "changes tables",
            ),
            ("(func (elem.drop $e))", "drops segments"),
            ("(func (data.drop $d)) (data $d \"x\")", "drops segments"),
        ] {
            let memory = if fields.contains("(memory") {
                ""
            } else {
                "(memory 2)"
            };
            let module =
                format!("(module {memory} (table 4 funcref) (func $f) (elem $e func $f) {fields})");
            let found = initial(&module).obstacle();
            assert!(
                found.is_some_and(|found| found.contains(obstacle)),
                "{fields}: {found:?}"
            );
        }
    }
}
