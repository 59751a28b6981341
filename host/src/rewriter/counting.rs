//! How a module counts its own reductions: where, how many, and what happens when a slice is used up.
//!
//! wasmtime's fuel would count as well, but it goes through memory at every call and return, and the next access waits
//! for the one before: code that calls much takes twice the time. Here a global says what is left of the slice, and one
//! subtraction serves a whole stretch of code that has no way in but its beginning and none out but its end:
//!
//! ```text
//! left = left - cost
//! if left < 0:  slice_ends()      ; left = slice;  pause(what was left)
//! ```
//!
//! A call costs 1, a loop's edge 1. That is taken at the beginning of the stretch in which the calls are, or the loop. What
//! is neither costs nothing, because it ends; but a function, or a loop's body, that is larger than
//! [`FREE_INSTRUCTIONS`] costs 1 more for each time that it is. So all work is paid for; what one function does without a loop
//! or a call is paid for at once, and then done in one go.
//! Operations on many bytes or elements cost as much as those are, and instructions that the compiler turns into calls of the
//! host's library as much as such a call.
//!
//! A loop in which nothing is called counts in a local, which is written back where it is left: a global in memory would have
//! each round wait for the store of the one before. But a local is alive in all of its function, and a branch more in each
//! loop is work for the compiler, too: with thousands of loops in one function compiling takes minutes. So a function with
//! more than [`LOOPS_WITH_LOCAL_MAX`] loops counts in the global, and one with more than [`SITES_INLINE_MAX`] sites has a
//! function of its own count ([`What::Calls`]), which compiles as fast as the code without any counting.

use crate::abi::BYTES_PER_REDUCTION;
use std::convert::Infallible;
use wasm_encoder::reencode::Error;
use wasm_encoder::{
    BlockType, BranchHint, Function, GlobalSection, GlobalType, InstructionSink, ValType,
};
use wasmparser::{Operator, OperatorsReader};

/// The export of what is left of the slice.
pub(crate) const COUNTER: &str = "atoll:reductions";

/// Code without calls and loops that costs nothing.
const FREE_INSTRUCTIONS: u64 = 256;
/// So much is paid for at once: more, and all of it would run when the slice is used up.
const AT_ONCE: u64 = 16;
/// A function with more loops has no local to count in.
const LOOPS_WITH_LOCAL_MAX: usize = 64;
/// A function with more sites has a function count.
const SITES_INLINE_MAX: usize = 512;
/// What growing a memory or a table costs, beside what is moved: the host's limits are asked, and who looks at the process is
/// told.
pub(crate) const GROWTH_COST: u64 = 64;
/// What another instruction costs that the compiler turns into a call of wasmtime's library.
pub(crate) const LIBRARY_CALL_COST: u64 = 8;

/// Where a function's code has to do with the count: before the so-manieth of its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) before: usize,
    pub(super) what: What,
}

/// In the order in which they are done at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A loop that counts in the local has ended: the local is written back.
    HasLeft,
    /// It costs so much.
    Costs(u64),
    /// The same, which a function counts.
    Calls(u64),
    /// The same, in the local.
    CostsInLocal(u64),
    /// One may leave the loop here.
    MayLeave,
    /// The loop begins: the local is what is left.
    Enters,
}

/// Finds out what a function's code costs, in the order of the code; with loops that count in a local if there may be one.
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
    /// Before which instruction, and how much.
    sites: Vec<(usize, u64)>,
    /// All loops, outer ones first.
    loops: Vec<Loop>,
    /// Where one may go on elsewhere than at the next instruction, within a loop: the innermost one, and the outermost
    /// target, by its place among the blocks that one is in.
    branches: Vec<(usize, usize, usize)>,
    /// The last site, if what comes now is paid for there; with what is paid for calls there.
    open_for: Option<u64>,
    /// The function, and the loops that one is in.
    bodies: Vec<Body>,
    /// The function, and the blocks that one is in: which loop it is, if it is one.
    frames: Vec<Option<usize>>,
    /// The innermost loop that one is in.
    innermost: Option<usize>,
}

struct Loop {
    start: usize,
    end: usize,
    /// Its place among the blocks that one is in.
    frame: usize,
    parent: Option<usize>,
    has_calls: bool,
}

/// The function's code, or that of a loop, without that of loops in it.
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
            self.pay(at, cost);
        }
        if matches!(flow, Flow::Call | Flow::LastCall) || is_sized(operator) {
            // Up to one that is known to: then those around it are as well.
            let mut innermost = self.innermost;
            while let Some(index) = innermost
                && !self.loops[index].has_calls
            {
                self.loops[index].has_calls = true;
                innermost = self.loops[index].parent;
            }
        }
        match flow {
            Flow::On | Flow::Call => {}
            Flow::LastCall | Flow::Branch => self.open_for = None,
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
                self.open(at + 1, 1);
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
        // The outermost loops without calls, in the order of the code.
        let has_local = |of: &Loop| may_have_local && !of.has_calls;
        let mut outermost: Vec<Option<usize>> = Vec::with_capacity(self.loops.len());
        for (index, of) in self.loops.iter().enumerate() {
            let parents = of.parent.and_then(|parent| outermost[parent]);
            outermost.push(parents.or(has_local(of).then_some(index)));
        }
        let mut sites = Vec::with_capacity(self.sites.len());
        let mut add = |before, what| sites.push(Site { before, what });
        let mut counts_in_local = Vec::new();
        for (index, of) in self.loops.iter().enumerate() {
            if outermost[index] == Some(index) {
                add(of.start, What::Enters);
                add(of.end + 1, What::HasLeft);
                counts_in_local.push(of.start + 1..of.end + 1);
            }
        }
        for (at, innermost, target) in self.branches {
            if outermost[innermost].is_some_and(|of| target < self.loops[of].frame) {
                add(at, What::MayLeave);
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
                    (true, _) => What::CostsInLocal(cost),
                    (false, true) => What::Costs(cost),
                    (false, false) => What::Calls(cost),
                },
            );
        }
        sites.sort_unstable();
        sites
    }

    fn pay(&mut self, at: usize, cost: u64) {
        let paid = match self.open_for {
            Some(paid) if paid == 0 || paid + cost <= AT_ONCE => paid,
            _ => {
                self.open(at, 0);
                0
            }
        };
        self.open_for = Some(paid + cost);
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

/// What an instruction is for the flow of control.
pub(super) enum Flow {
    /// The next one follows.
    On,
    Call,
    /// A call from which one does not come back here.
    LastCall,
    /// It may go on elsewhere within the same blocks, or not at all.
    Branch,
    /// It may go on so many blocks further out, or must.
    BranchTo(u32),
    Block,
    If,
    Loop,
    /// An end of a block, or of its first half: one may come from elsewhere.
    End,
}

pub(super) fn flow(operator: &Operator<'_>) -> Flow {
    match operator {
        Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => {
            Flow::Call
        }
        // These become calls.
        Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryGrow { .. } => {
            Flow::Call
        }
        Operator::ReturnCall { .. }
        | Operator::ReturnCallIndirect { .. }
        | Operator::ReturnCallRef { .. } => Flow::LastCall,
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
        _ => Flow::On,
    }
}

/// What an instruction costs as a call, of the guest's functions or of the host's library.
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
        _ => matches!(flow, Flow::Call | Flow::LastCall).then_some(1),
    }
}

/// Does this work on as many bytes or elements as the last of its operands says? (Not those that are cut into pieces.)
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

/// What is taken off the slice.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    Of(u64),
    /// What an operation on as many bytes costs as this local says.
    Bytes(u32),
    /// As much as the operand on top says, which stays there.
    Top,
}

/// The counter of a module.
pub(super) struct Counter {
    /// The global that says what is left of the slice, of type i64; the one behind it is for [`Cost::Top`], if that occurs.
    pub(super) left: u32,
    pub(super) has_operand: bool,
    pub(super) slice: u64,
    /// The function that is called when the slice is used up.
    pub(super) slice_ends: u32,
    /// The function that takes its operand off the slice, for [`What::Calls`].
    pub(super) takes_off: u32,
    /// The host's function that ends a turn; it is told what was left.
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

    /// Takes this off the slice, and ends it if nothing is left.
    pub(super) fn charge(&self, code: &mut InstructionSink<'_>, cost: Cost) {
        self.take_off(code, cost);
        self.end_if_used_up(code, cost);
    }

    /// The same for code of the guest's own, for which it is said where the branch is that is hardly ever taken.
    pub(super) fn charge_here(&self, body: &mut Function, cost: Cost) -> BranchHint {
        self.take_off(&mut body.instructions(), cost);
        let hint = hardly_ever(body);
        self.end_if_used_up(&mut body.instructions(), cost);
        hint
    }

    /// The same in a local.
    pub(super) fn charge_in_local(&self, body: &mut Function, cost: u64, local: u32) -> BranchHint {
        let mut code = body.instructions();
        code.local_get(local).i64_const(cost.cast_signed());
        code.i64_sub().local_tee(local).i64_const(0).i64_lt_s();
        let hint = hardly_ever(body);
        body.instructions().if_(BlockType::Empty);
        self.write_back(body, local);
        body.instructions().call(self.slice_ends);
        self.enter(body, local);
        body.instructions().end();
        hint
    }

    /// From here on the local says what is left.
    pub(super) fn enter(&self, body: &mut Function, local: u32) {
        body.instructions().global_get(self.left).local_set(local);
    }

    /// From here on the global does.
    pub(super) fn write_back(&self, body: &mut Function, local: u32) {
        body.instructions().local_get(local).global_set(self.left);
    }

    fn take_off(&self, code: &mut InstructionSink<'_>, cost: Cost) {
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

    /// Begins a slice.
    pub(super) fn begin(&self, code: &mut InstructionSink<'_>, cost: u64) {
        code.i64_const(self.slice.cast_signed() - cost.cast_signed());
        code.global_set(self.left);
    }

    /// Ends the turn, and begins the next slice.
    pub(super) fn pause(&self, code: &mut InstructionSink<'_>) {
        code.global_get(self.left);
        self.begin(code, 0);
        code.call(self.pause);
    }

    /// Has the function do it that is there for that.
    pub(super) fn call(&self, code: &mut InstructionSink<'_>, cost: u64) {
        code.i64_const(cost.cast_signed()).call(self.takes_off);
    }

    /// That function.
    pub(super) fn takes_off(&self) -> Function {
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

/// Says that the branch which comes next is hardly ever taken.
fn hardly_ever(body: &Function) -> BranchHint {
    BranchHint {
        branch_func_offset: body.byte_len() as u32,
        branch_hint_value: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Payload};

    /// What a function's code costs.
    fn sites_of(code: &str) -> Vec<(usize, u64)> {
        with_code(code, |code| {
            let cost = |site: Site| match site.what {
                What::Costs(cost) => (site.before, cost),
                other => panic!("{other:?} without a local"),
            };
            let found = sites(code, false).expect("it can be read");
            found.into_iter().map(cost).collect()
        })
    }

    /// The same with loops that count in a local.
    fn sites_with_local(code: &str) -> Vec<(usize, What)> {
        with_code(code, |code| {
            let found = sites(code, true).expect("it can be read");
            found.iter().map(|site| (site.before, site.what)).collect()
        })
    }

    /// A module's first function with code.
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
    fn what_is_called_in_one_stretch_is_paid_for_at_once() {
        assert_eq!(sites_of("(call 0) (call 0) (block (call 0))"), [(0, 3)]);
        assert_eq!(sites_of("(nop) (call 0) (return_call 0)"), [(0, 2)]);
        // Behind a branch, and where branches meet, another stretch begins.
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
        // A loop's body is its own, not that of what it is in.
        assert_eq!(sites_of(&format!("(loop {large})")), [(1, 3)]);
        assert_eq!(
            sites_of(&format!("(loop {large} (loop {large} {large}) (br 0))")),
            [(1, 3), (602, 5)]
        );
    }

    #[test]
    fn loops_without_calls_count_in_a_local() {
        use What::*;
        let simple = "(loop (br_if 0 (local.get 0)))";
        assert_eq!(
            sites_with_local(simple),
            [(0, Enters), (1, CostsInLocal(1)), (4, HasLeft)]
        );
        // With one in it, which one may leave both of, and return from.
        let nested =
            "(block (loop (loop (br_if 2 (local.get 0)) (br_if 0 (local.get 0)) (return)) (br 0)))";
        assert_eq!(
            sites_with_local(nested),
            [
                (1, Enters),
                (2, CostsInLocal(1)),
                (3, CostsInLocal(1)),
                (4, MayLeave),
                (7, MayLeave),
                (11, HasLeft),
            ]
        );
        // The outer one calls: only the inner one has it.
        let calls = "(loop (loop (br_if 0 (local.get 0))) (call 0) (br_if 0 (local.get 0)))";
        assert_eq!(
            sites_with_local(calls),
            [
                (1, Costs(1)),
                (1, Enters),
                (2, CostsInLocal(1)),
                (5, HasLeft),
                (5, Costs(1)),
            ]
        );
        let table = "(block (loop (br_table 1 0 (local.get 0))))";
        assert_eq!(
            sites_with_local(table),
            [
                (1, Enters),
                (2, CostsInLocal(1)),
                (3, MayLeave),
                (5, HasLeft)
            ]
        );
        assert_eq!(sites_with_local("(call 0)"), [(0, Costs(1))]);
    }

    #[test]
    fn bulk_operations_are_calls() {
        let fill = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 1))";
        assert_eq!(sites_of(fill), [(0, 1)]);
    }

    #[test]
    fn calls_of_the_hosts_library_cost_as_much_as_that() {
        let grow = "(drop (memory.grow (i32.const 0)))";
        assert_eq!(sites_of(grow), [(0, GROWTH_COST)]);
        // The process pays a bounded sum at once.
        assert_eq!(
            sites_of(&grow.repeat(2)),
            [(0, GROWTH_COST), (4, GROWTH_COST)]
        );
        let init = "(memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0)) (data.drop 0)";
        assert_eq!(sites_of(init), [(0, 2 * LIBRARY_CALL_COST)]);
    }

    #[test]
    fn many_loops_are_counted_otherwise() {
        let loops = |count| "(loop (br_if 0 (local.get 0)))".repeat(count);
        let all = |count, fits: fn(&What) -> bool| {
            let sites = sites_with_local(&loops(count));
            sites.iter().filter(|(_, what)| fits(what)).count() == count
        };
        let fits_local = |what: &What| matches!(what, What::CostsInLocal(1));
        assert!(all(LOOPS_WITH_LOCAL_MAX, fits_local));
        assert!(all(LOOPS_WITH_LOCAL_MAX + 1, |what| *what == What::Costs(1)));
        assert!(all(2 * SITES_INLINE_MAX, |what| *what == What::Calls(1)));
    }
}
