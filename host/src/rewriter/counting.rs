//! Counting reductions inside the module: the sites, the amounts, and the end of a slice.
//!
//! wasmtime's fuel would count as well, but it goes through memory at every call and return, and each access waits for the one
//! before. Code with many calls takes twice the time. Here a global holds what is left of the slice. One subtraction serves a
//! whole stretch of code that can be entered only at its beginning and left only at its end:
//!
//! ```text
//! left = left - cost
//! if left < 0:  slice_ends()      ; left = slice;  pause(what was left)
//! ```
//!
//! A call costs 1, and so does a loop edge. The code pays at the beginning of the stretch that contains the calls, or of the
//! loop's body. Other instructions are free, because code without loops and calls ends. But a function or loop body costs 1 more
//! for each [`FREE_INSTRUCTIONS`] instructions. So all work is paid for. A stretch without loops and calls is paid for in advance
//! and runs in one go. An operation on many bytes or elements costs in proportion to them. An instruction that the compiler turns
//! into a call of wasmtime's library costs as much as such a call.
//!
//! A loop without calls counts in a local and writes it back to the global when control leaves the loop. A global in memory would
//! make each iteration wait for the previous iteration's store. But a local is live in the whole function, and each loop has an
//! additional branch, both of which cost compile time. With thousands of loops in one function, compiling takes minutes. So a
//! function with more than [`LOOPS_WITH_LOCAL_MAX`] loops counts in the global. A function with more than [`SITES_INLINE_MAX`]
//! sites calls a function that counts ([`Action::ChargeByCall`]), which compiles as fast as code that isn't counted.

use crate::abi::BYTES_PER_REDUCTION;
use crate::broken::{Rule, breaks};
use std::convert::Infallible;
use wasm_encoder::reencode::Error;
use wasm_encoder::{
    BlockType, BranchHint, Function, GlobalSection, GlobalType, InstructionSink, ValType,
};
use wasmparser::{Operator, OperatorsReader};

/// The export name of the global that holds what is left of the slice.
pub(crate) const COUNTER: &str = "atoll:reductions";

/// This many instructions without calls and loops are free.
const FREE_INSTRUCTIONS: u64 = 256;
/// The most that code pays in advance. All the code that is paid for still runs after the slice is used up.
const ADVANCE_MAX: u64 = 16;
/// A function with more loops counts in the global only.
const LOOPS_WITH_LOCAL_MAX: usize = 64;
/// A function with more sites calls a function that counts.
const SITES_INLINE_MAX: usize = 512;
/// The cost of growing a memory or a table, besides the bytes moved: the host checks its limits and records the new size for
/// inspection.
pub(crate) const GROWTH_COST: u64 = 64;
/// The cost of any other instruction that the compiler turns into a call of wasmtime's library.
pub(crate) const LIBRARY_CALL_COST: u64 = 8;

/// A site at which the rewriter inserts counting code. `before` is an instruction index: the code goes before that instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) before: usize,
    pub(super) action: Action,
}

/// The counting code at a site. Actions with the same index are done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    /// A loop that counts in the local has ended: copy the local to the global.
    WriteBack,
    /// Subtract this cost from the global.
    Charge(u64),
    /// Call the function that subtracts this cost.
    ChargeByCall(u64),
    /// Subtract this cost from the local.
    ChargeLocal(u64),
    /// A branch may leave the loop: copy the local to the global.
    WriteBackOnBranch,
    /// A loop that counts in the local begins: copy the global to the local.
    Enter,
}

/// Finds a function's sites, in the order of the code. Loops may count in a local if `may_have_local`.
pub(super) fn sites(
    mut code: OperatorsReader<'_>,
    may_have_local: bool,
) -> Result<Vec<Site>, Error<Infallible>> {
    let mut costs = Costs::default();
    costs.open(0, 0);
    costs.bodies.push(Body::of(0));
    costs.frames.push(None);
    for at in 0.. {
        if code.eof() {
            break;
        }
        costs.instruction(at, &code.read()?);
    }
    Ok(costs.finish(may_have_local))
}

#[derive(Default)]
struct Costs {
    /// The instruction index and the cost of each site.
    sites: Vec<(usize, u64)>,
    /// All loops, outer ones first.
    loops: Vec<Loop>,
    /// Branches inside of loops: the instruction index, the innermost loop, and the outermost target as an index into `frames`.
    branches: Vec<(usize, usize, usize)>,
    /// The cost of the calls at the last site, while the site can still take more.
    open_for: Option<u64>,
    /// The function, and the loops around the current instruction.
    bodies: Vec<Body>,
    /// The function, and the blocks around the current instruction. A loop's frame holds its index.
    frames: Vec<Option<usize>>,
    /// The innermost loop around the current instruction.
    innermost: Option<usize>,
}

struct Loop {
    start: usize,
    end: usize,
    /// Its index in `frames`.
    frame: usize,
    parent: Option<usize>,
    has_calls: bool,
}

/// The code of a function or of a loop, without the loops inside.
struct Body {
    site: usize,
    instructions: u64,
}

impl Body {
    fn of(site: usize) -> Body {
        Body {
            site,
            instructions: 0,
        }
    }
}

impl Costs {
    fn open(&mut self, before: usize, cost: u64) {
        self.sites.push((before, cost));
        self.open_for = Some(0);
    }

    fn instruction(&mut self, at: usize, operator: &Operator<'_>) {
        if let Some(body) = self.bodies.last_mut() {
            body.instructions += 1;
        }
        let flow = flow(operator);
        if let Some(cost) = call_cost(operator, &flow) {
            self.charge(at, cost);
        }
        if matches!(flow, Flow::Call | Flow::TailCall) || is_sized(operator) {
            // A loop that already has calls has marked its parents, too.
            let mut innermost = self.innermost;
            while let Some(index) = innermost
                && !self.loops[index].has_calls
            {
                self.loops[index].has_calls = true;
                innermost = self.loops[index].parent;
            }
        }
        match flow {
            Flow::Next | Flow::Call => {}
            Flow::TailCall | Flow::Branch => self.open_for = None,
            Flow::BranchTo(depth) => {
                self.branch(at, depth);
                self.open_for = None;
            }
            Flow::Block => self.frames.push(None),
            Flow::If => {
                self.frames.push(None);
                self.open_for = None;
            }
            Flow::Loop => {
                self.loops.push(Loop {
                    start: at,
                    end: at,
                    frame: self.frames.len(),
                    parent: self.innermost,
                    has_calls: false,
                });
                self.innermost = Some(self.loops.len() - 1);
                self.frames.push(self.innermost);
                self.bodies.push(Body::of(self.sites.len()));
                let is_free = self.loops.len() > 1 && breaks(Rule::LoopUnpaid);
                self.open(at + 1, if is_free { 0 } else { 1 });
            }
            Flow::End => {
                let ended = self.frames.pop().flatten();
                if let Some(ended) = ended {
                    self.loops[ended].end = at;
                    self.innermost = self.loops[ended].parent;
                }
                // The function's own end closes its body.
                if ended.is_some() || self.frames.is_empty() {
                    self.end_body();
                }
                self.open_for = None;
            }
        }
    }

    fn branch(&mut self, at: usize, depth: u32) {
        if let Some(innermost) = self.innermost {
            let target = self.frames.len().saturating_sub(1 + depth as usize);
            self.branches.push((at, innermost, target));
        }
    }

    fn finish(self, may_have_local: bool) -> Vec<Site> {
        let may_have_local = may_have_local && self.loops.len() <= LOOPS_WITH_LOCAL_MAX;
        let is_inline = self.sites.len() <= SITES_INLINE_MAX;
        // Find the outermost loops without calls.
        let has_local = |of: &Loop| may_have_local && !of.has_calls;
        let mut outermost: Vec<Option<usize>> = Vec::with_capacity(self.loops.len());
        for (index, of) in self.loops.iter().enumerate() {
            let parents = of.parent.and_then(|parent| outermost[parent]);
            outermost.push(parents.or(has_local(of).then_some(index)));
        }
        let mut sites = Vec::with_capacity(self.sites.len());
        let mut add = |before, action| sites.push(Site { before, action });
        let mut counts_in_local = Vec::new();
        for (index, of) in self.loops.iter().enumerate() {
            if outermost[index] == Some(index) {
                add(of.start, Action::Enter);
                add(of.end + 1, Action::WriteBack);
                counts_in_local.push(of.start + 1..of.end + 1);
            }
        }
        for (at, innermost, target) in self.branches {
            if outermost[innermost].is_some_and(|of| target < self.loops[of].frame) {
                add(at, Action::WriteBackOnBranch);
            }
        }
        for (before, cost) in self.sites.into_iter().filter(|(_, cost)| *cost > 0) {
            let after = counts_in_local.partition_point(|range| range.end <= before);
            let is_local = counts_in_local
                .get(after)
                .is_some_and(|range| range.contains(&before));
            add(
                before,
                match (is_local, is_inline) {
                    (true, _) => Action::ChargeLocal(cost),
                    (false, true) => Action::Charge(cost),
                    (false, false) => Action::ChargeByCall(cost),
                },
            );
        }
        sites.sort_unstable();
        sites
    }

    fn charge(&mut self, at: usize, cost: u64) {
        let charged = match self.open_for {
            Some(charged) if charged == 0 || charged + cost <= ADVANCE_MAX => charged,
            _ => {
                self.open(at, 0);
                0
            }
        };
        self.open_for = Some(charged + cost);
        if let Some((_, costs)) = self.sites.last_mut() {
            *costs += cost;
        }
    }

    fn end_body(&mut self) {
        if let Some(body) = self.bodies.pop() {
            self.sites[body.site].1 += body.instructions / FREE_INSTRUCTIONS;
        }
    }
}

/// The effect of an instruction on control flow.
pub(super) enum Flow {
    /// Control goes on to the next instruction.
    Next,
    Call,
    /// Control doesn't come back here.
    TailCall,
    /// Control may go elsewhere in the same blocks, or it stops.
    Branch,
    /// Control may, or must, go this many blocks outwards.
    BranchTo(u32),
    Block,
    If,
    Loop,
    /// The end of a block, or of an `if`'s first half. Control may arrive here from elsewhere.
    End,
}

pub(super) fn flow(operator: &Operator<'_>) -> Flow {
    match operator {
        Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => {
            Flow::Call
        }
        // The rewriter turns these into calls.
        Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryGrow { .. } => {
            Flow::Call
        }
        Operator::ReturnCall { .. }
        | Operator::ReturnCallIndirect { .. }
        | Operator::ReturnCallRef { .. } => Flow::TailCall,
        Operator::Br { relative_depth }
        | Operator::BrIf { relative_depth }
        | Operator::BrOnNull { relative_depth }
        | Operator::BrOnNonNull { relative_depth } => Flow::BranchTo(*relative_depth),
        Operator::BrTable { targets } => {
            let depths = targets.targets().filter_map(Result::ok);
            Flow::BranchTo(depths.fold(targets.default(), u32::max))
        }
        Operator::Return => Flow::BranchTo(u32::MAX),
        Operator::Else | Operator::Unreachable => Flow::Branch,
        Operator::Block { .. } => Flow::Block,
        Operator::If { .. } => Flow::If,
        Operator::Loop { .. } => Flow::Loop,
        Operator::End => Flow::End,
        _ => Flow::Next,
    }
}

/// The cost of an instruction that calls a guest function or wasmtime's library.
fn call_cost(operator: &Operator<'_>, flow: &Flow) -> Option<u64> {
    match operator {
        Operator::MemoryGrow { .. } | Operator::TableGrow { .. } => Some(GROWTH_COST),
        Operator::MemoryInit { .. }
        | Operator::DataDrop { .. }
        | Operator::ElemDrop { .. }
        | Operator::RefFunc { .. }
        | Operator::TableGet { .. }
        | Operator::TableSet { .. }
        | Operator::TableInit { .. }
        | Operator::TableCopy { .. }
        | Operator::TableFill { .. } => Some(LIBRARY_CALL_COST),
        _ => matches!(flow, Flow::Call | Flow::TailCall).then_some(1),
    }
}

/// Does the last operand say how many bytes or elements the instruction works on? Operations that are cut into pieces don't
/// count.
pub(super) fn is_sized(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryInit { .. }
            | Operator::TableInit { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableGrow { .. }
    )
}

/// An amount to subtract from the slice.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    Of(u64),
    /// The cost of an operation on as many bytes as this local holds.
    Bytes(u32),
    /// As much as the top operand holds. The operand stays on the stack.
    Top,
}

/// The counter of a module.
pub(super) struct Counter {
    /// The global with what is left of the slice, of type i64. The next global holds the operand of [`Cost::Top`], if the module
    /// uses it.
    pub(super) left: u32,
    pub(super) has_operand: bool,
    pub(super) slice: u64,
    /// The function that runs when the slice is used up.
    pub(super) slice_ends: u32,
    /// The function that subtracts its parameter from the slice, for [`Action::ChargeByCall`].
    pub(super) charge_function: u32,
    /// The host's function that ends a turn. Its parameter is what was left.
    pub(super) pause: u32,
}

impl Counter {
    fn operand(&self) -> u32 {
        self.left + 1
    }

    pub(super) fn add_globals(&self, globals: &mut GlobalSection) {
        let global = |val_type| GlobalType {
            val_type,
            mutable: true,
            shared: false,
        };
        globals.global(global(ValType::I64), &wasm_encoder::ConstExpr::i64_const(0));
        if self.has_operand {
            globals.global(global(ValType::I32), &wasm_encoder::ConstExpr::i32_const(0));
        }
    }

    /// Writes code that subtracts the cost and ends the slice if nothing is left.
    pub(super) fn charge(&self, code: &mut InstructionSink<'_>, cost: Cost) {
        self.subtract(code, cost);
        self.end_if_used_up(code, cost);
    }

    /// The same in the guest's own code. Returns a hint that the branch to the end of the slice is unlikely.
    pub(super) fn charge_here(&self, body: &mut Function, cost: Cost) -> BranchHint {
        self.subtract(&mut body.instructions(), cost);
        let hint = unlikely(body);
        self.end_if_used_up(&mut body.instructions(), cost);
        hint
    }

    /// The same for a loop that counts in a local.
    pub(super) fn charge_in_local(&self, body: &mut Function, cost: u64, local: u32) -> BranchHint {
        let mut code = body.instructions();
        code.local_get(local).i64_const(cost.cast_signed());
        code.i64_sub().local_tee(local).i64_const(0).i64_lt_s();
        let hint = unlikely(body);
        body.instructions().if_(BlockType::Empty);
        self.write_back(body, local);
        body.instructions().call(self.slice_ends);
        self.enter(body, local);
        body.instructions().end();
        hint
    }

    /// Copies what is left from the global to the local.
    pub(super) fn enter(&self, body: &mut Function, local: u32) {
        body.instructions().global_get(self.left).local_set(local);
    }

    /// Copies what is left from the local to the global.
    pub(super) fn write_back(&self, body: &mut Function, local: u32) {
        body.instructions().local_get(local).global_set(self.left);
    }

    fn subtract(&self, code: &mut InstructionSink<'_>, cost: Cost) {
        if let Cost::Top = cost {
            code.global_set(self.operand());
        }
        code.global_get(self.left);
        match cost {
            Cost::Of(cost) => code.i64_const(cost.cast_signed()),
            Cost::Bytes(local) => code
                .local_get(local)
                .i64_extend_i32_u()
                .i64_const(BYTES_PER_REDUCTION.ilog2().into())
                .i64_shr_u(),
            Cost::Top => code.global_get(self.operand()).i64_extend_i32_u(),
        };
        code.i64_sub().global_set(self.left);
        code.global_get(self.left).i64_const(0).i64_lt_s();
    }

    fn end_if_used_up(&self, code: &mut InstructionSink<'_>, cost: Cost) {
        code.if_(BlockType::Empty).call(self.slice_ends).end();
        if let Cost::Top = cost {
            code.global_get(self.operand());
        }
    }

    /// Writes code that begins a slice.
    pub(super) fn begin(&self, code: &mut InstructionSink<'_>, cost: u64) {
        code.i64_const(self.slice.cast_signed() - cost.cast_signed());
        code.global_set(self.left);
    }

    /// Writes code that ends the turn and begins the next slice.
    pub(super) fn pause(&self, code: &mut InstructionSink<'_>) {
        code.global_get(self.left);
        self.begin(code, 0);
        code.call(self.pause);
    }

    /// Writes a call of the function that counts.
    pub(super) fn charge_by_call(&self, code: &mut InstructionSink<'_>, cost: u64) {
        code.i64_const(cost.cast_signed())
            .call(self.charge_function);
    }

    /// The function that counts.
    pub(super) fn charge_function(&self) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        code.global_get(self.left).local_get(0).i64_sub();
        code.global_set(self.left).global_get(self.left);
        code.i64_const(0).i64_lt_s();
        code.if_(BlockType::Empty).call(self.slice_ends).end().end();
        body
    }

    pub(super) fn slice_ends(&self) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        self.pause(&mut code);
        code.end();
        body
    }
}

/// A hint that the next branch is unlikely.
fn unlikely(body: &Function) -> BranchHint {
    BranchHint {
        branch_func_offset: body.byte_len() as u32,
        branch_hint_value: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Payload};

    /// The sites and costs of a function's code.
    fn sites_of(code: &str) -> Vec<(usize, u64)> {
        with_code(code, |code| {
            let cost = |site: Site| match site.action {
                Action::Charge(cost) => (site.before, cost),
                other => panic!("{other:?} without a local"),
            };
            let found = sites(code, false).expect("it can be read");
            found.into_iter().map(cost).collect()
        })
    }

    /// The same for code whose loops may count in a local.
    fn sites_with_local(code: &str) -> Vec<(usize, Action)> {
        with_code(code, |code| {
            let found = sites(code, true).expect("it can be read");
            found
                .iter()
                .map(|site| (site.before, site.action))
                .collect()
        })
    }

    /// Gives `work` the code of a module's first function.
    fn with_code<T>(code: &str, work: impl FnOnce(OperatorsReader<'_>) -> T) -> T {
        let text = format!(
            "(module (import \"\" \"\" (func $other)) (func (param i32) {code}) (memory 1) (data))"
        );
        let bytes = wat::parse_str(text).expect("the text is a module");
        let body = Parser::new(0).parse_all(&bytes).find_map(|payload| {
            match payload.expect("the module is valid") {
                Payload::CodeSectionEntry(body) => Some(body),
                _ => None,
            }
        });
        let code = body.expect("there is code").get_operators_reader();
        work(code.expect("it can be read"))
    }

    #[test]
    fn a_leaf_costs_nothing() {
        assert_eq!(sites_of("(drop (i32.add (local.get 0) (i32.const 1)))"), []);
        let branches = "(block (br_if 0 (local.get 0)) (br 0))";
        assert_eq!(sites_of(branches), []);
    }

    #[test]
    fn calls_in_one_stretch_are_paid_for_together() {
        assert_eq!(sites_of("(call 0) (call 0) (block (call 0))"), [(0, 3)]);
        assert_eq!(sites_of("(nop) (call 0) (return_call 0)"), [(0, 2)]);
        // A new stretch begins after a branch, and where branches meet.
        let branch = "(call 0) (block (br_if 0 (local.get 0)) (call 0)) (call 0)";
        assert_eq!(sites_of(branch), [(0, 1), (4, 1), (6, 1)]);
        let choice = "(if (local.get 0) (then (call 0)) (else (call 0) (call 0)))";
        assert_eq!(sites_of(choice), [(2, 1), (4, 2)]);
    }

    #[test]
    fn a_loop_pays_for_each_edge_and_what_is_called_first() {
        let nested = "(loop (call 0) (loop (br_if 0 (local.get 0))) (call 0) (br 0))";
        assert_eq!(sites_of(nested), [(1, 2), (3, 1), (6, 1)]);
    }

    #[test]
    fn many_calls_are_paid_for_in_parts() {
        let many = "(call 0)".repeat(40);
        assert_eq!(sites_of(&many), [(0, 16), (16, 16), (32, 8)]);
    }

    #[test]
    fn large_code_costs_something() {
        let large = "(nop)".repeat(600);
        assert_eq!(sites_of(&large), [(0, 2)]);
        // A loop's instructions count for the loop, not for the code around it.
        assert_eq!(sites_of(&format!("(loop {large})")), [(1, 3)]);
        assert_eq!(
            sites_of(&format!("(loop {large} (loop {large} {large}) (br 0))")),
            [(1, 3), (602, 5)]
        );
    }

    #[test]
    fn loops_without_calls_count_in_a_local() {
        use Action::*;
        let simple = "(loop (br_if 0 (local.get 0)))";
        assert_eq!(
            sites_with_local(simple),
            [(0, Enter), (1, ChargeLocal(1)), (4, WriteBack)]
        );
        // A nested loop, with a branch that leaves both loops and a return.
        let nested =
            "(block (loop (loop (br_if 2 (local.get 0)) (br_if 0 (local.get 0)) (return)) (br 0)))";
        assert_eq!(
            sites_with_local(nested),
            [
                (1, Enter),
                (2, ChargeLocal(1)),
                (3, ChargeLocal(1)),
                (4, WriteBackOnBranch),
                (7, WriteBackOnBranch),
                (11, WriteBack),
            ]
        );
        // The outer loop has a call, so only the inner one counts in the local.
        let calls = "(loop (loop (br_if 0 (local.get 0))) (call 0) (br_if 0 (local.get 0)))";
        assert_eq!(
            sites_with_local(calls),
            [
                (1, Charge(1)),
                (1, Enter),
                (2, ChargeLocal(1)),
                (5, WriteBack),
                (5, Charge(1)),
            ]
        );
        let table = "(block (loop (br_table 1 0 (local.get 0))))";
        assert_eq!(
            sites_with_local(table),
            [
                (1, Enter),
                (2, ChargeLocal(1)),
                (3, WriteBackOnBranch),
                (5, WriteBack)
            ]
        );
        assert_eq!(sites_with_local("(call 0)"), [(0, Charge(1))]);
    }

    #[test]
    fn bulk_operations_are_calls() {
        let fill = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 1))";
        assert_eq!(sites_of(fill), [(0, 1)]);
    }

    #[test]
    fn library_calls_have_costs_of_their_own() {
        let grow = "(drop (memory.grow (i32.const 0)))";
        assert_eq!(sites_of(grow), [(0, GROWTH_COST)]);
        // The process pays a bounded amount in advance.
        assert_eq!(
            sites_of(&grow.repeat(2)),
            [(0, GROWTH_COST), (4, GROWTH_COST)]
        );
        let init = "(memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0)) (data.drop 0)";
        assert_eq!(sites_of(init), [(0, 2 * LIBRARY_CALL_COST)]);
    }

    #[test]
    fn many_loops_count_in_the_global_or_by_calls() {
        let loops = |count| "(loop (br_if 0 (local.get 0)))".repeat(count);
        let all = |count, fits: fn(&Action) -> bool| {
            let sites = sites_with_local(&loops(count));
            sites.iter().filter(|(_, action)| fits(action)).count() == count
        };
        let fits_local = |action: &Action| matches!(action, Action::ChargeLocal(1));
        assert!(all(LOOPS_WITH_LOCAL_MAX, fits_local));
        assert!(all(LOOPS_WITH_LOCAL_MAX + 1, |action| *action
            == Action::Charge(1)));
        assert!(all(2 * SITES_INLINE_MAX, |action| *action
            == Action::ChargeByCall(1)));
    }
}
