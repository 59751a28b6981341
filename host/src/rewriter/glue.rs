//! Glue between a guest and the functions of the contract that may wait or return a list.
//!
//! In the canonical ABI, the host calls the guest's `cabi_realloc` in the middle of an import. That costs a second stack and
//! would run guest code while the host is at work. Instead the rewriter replaces the import by a raw one, which either answers
//! "again" or leaves its result with the host. A function in the module itself does the rest:
//!
//! ```text
//! members(…, ret):  loop:  n = raw.members(…, ret)      ; n < 0: pause, then again
//!                   while n ≠ 0:  p = cabi_realloc(0, 0, alignment of n, size of n);  n = raw.take(p)
//! ```
//!
//! A short payload comes with the answer. The glue stores it without another call of the host.

use super::counting::Counter;
use crate::abi::{self, SHORT, SHORT_BYTES_MAX, Shape};
use wasm_encoder::{BlockType, Function, InstructionSink, MemArg, ValType};

/// The functions and the memory that glue uses.
pub(super) struct Glue<'a> {
    pub(super) counter: &'a Counter,
    /// The raw function that copies a list.
    pub(super) take: u32,
    /// The guest's `cabi_realloc`.
    pub(super) realloc: Option<u32>,
    /// The memory that the contract's functions use.
    pub(super) memory: u32,
}

impl Glue<'_> {
    /// The glue function for a function of the contract. `import` is its raw import.
    pub(super) fn function(&self, import: u32, function: &abi::Function) -> Function {
        let params = function.params.len() as u32;
        let answer = params;
        let lists = function.shape.leaves_lists();
        let answers = encoded(function.shape.raw_answers());
        let buffer_type = ValType::I32;
        let locals = answers.iter().chain([&buffer_type]).map(|ty| (1, *ty));
        let mut body = Function::new(locals.collect::<Vec<_>>());
        let mut code = body.instructions();
        code.loop_(BlockType::Empty);
        for param in 0..params {
            code.local_get(param);
        }
        code.call(import);
        for more in (1..answers.len() as u32).rev() {
            code.local_set(answer + more);
        }
        code.local_tee(answer);
        if lists {
            code.i64_const(0).i64_lt_s();
        } else {
            code.i32_const(0).i32_lt_s();
        }
        code.if_(BlockType::Empty);
        self.counter.pause(&mut code);
        code.br(1).end().end();
        if let (true, Some(realloc)) = (lists, self.realloc) {
            let allocate = |code: &mut InstructionSink<'_>| {
                code.i32_const(0).i32_const(0);
                code.local_get(answer)
                    .i64_const(32)
                    .i64_shr_u()
                    .i32_wrap_i64();
                code.local_get(answer).i32_wrap_i64();
                code.call(realloc);
            };
            code.local_get(answer).i64_const(0).i64_ne();
            code.if_(BlockType::Empty);
            if let Shape::RetryThenPayload(pointer_at) = function.shape {
                code.local_get(answer).i64_const(SHORT).i64_and();
                code.i64_eqz().i32_eqz().if_(BlockType::Empty);
                // The alignment lies in the bits above the size, as for lists.
                code.local_get(answer).i64_const(!SHORT).i64_and();
                code.local_set(answer);
                allocate(&mut code);
                self.store_short(&mut code, params, pointer_at);
                code.else_();
            }
            code.loop_(BlockType::Empty);
            allocate(&mut code);
            code.call(self.take)
                .local_tee(answer)
                .i64_const(0)
                .i64_ne()
                .br_if(0)
                .end();
            if let Shape::RetryThenPayload(_) = function.shape {
                code.end();
            }
            code.end();
        }
        if !function.results.is_empty() {
            code.local_get(answer);
        }
        code.end();
        body
    }

    /// Takes the buffer's address from the stack and stores the payload from the answer there. Stores the buffer's address in the
    /// result at offset `pointer_at`; the last parameter is the result's address.
    fn store_short(&self, code: &mut InstructionSink<'_>, params: u32, pointer_at: u64) {
        let (answer, low, high, buffer) = (params, params + 1, params + 2, params + 3);
        let at = |offset| MemArg {
            offset,
            align: 0,
            memory_index: self.memory,
        };
        code.local_set(buffer);
        code.local_get(params - 1)
            .local_get(buffer)
            .i32_store(at(pointer_at));
        let has = |code: &mut InstructionSink<'_>, bytes: i64| {
            code.local_get(answer).i64_const(bytes).i64_and();
            code.i64_eqz().i32_eqz().if_(BlockType::Empty);
        };
        has(code, SHORT_BYTES_MAX as i64);
        code.local_get(buffer).local_get(low).i64_store(at(0));
        code.local_get(buffer).local_get(high).i64_store(at(8));
        code.else_();
        // Store eight, four, two bytes and one byte, as the bits of the size say.
        has(code, 8);
        code.local_get(buffer).local_get(low).i64_store(at(0));
        code.local_get(high).local_set(low);
        code.local_get(buffer)
            .i32_const(8)
            .i32_add()
            .local_set(buffer);
        code.end();
        for bytes in [4, 2, 1] {
            has(code, bytes);
            code.local_get(buffer).local_get(low);
            match bytes {
                4 => code.i64_store32(at(0)),
                2 => code.i64_store16(at(0)),
                _ => code.i64_store8(at(0)),
            };
            code.local_get(low).i64_const(8 * bytes).i64_shr_u();
            code.local_set(low);
            code.local_get(buffer).i32_const(bytes as i32).i32_add();
            code.local_set(buffer);
            code.end();
        }
        code.end();
    }
}

/// Parameters or results of the contract's functions, as the encoder wants them. They are integers.
pub(super) fn encoded(types: &[wasmparser::ValType]) -> Vec<ValType> {
    let types = types.iter().map(|ty| match ty {
        wasmparser::ValType::I64 => ValType::I64,
        _ => ValType::I32,
    });
    types.collect()
}
