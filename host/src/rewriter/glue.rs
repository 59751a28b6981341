//! Glue: what stands between a guest and those of the contract's functions that may wait or return a list.
//!
//! The canonical ABI has the host call the guest's `cabi_realloc` in the middle of an import, which costs a second stack
//! and would let guest code run while the host is at work. Instead the import becomes a raw one that either answers "again"
//! or leaves its result with the host, and a function in the module itself does the rest:
//!
//! ```text
//! members(…, ret):  loop:  n = raw.members(…, ret)      ; n < 0: pause, then again
//!                   while n ≠ 0:  p = cabi_realloc(0, 0, alignment of n, size of n);  n = raw.take(p)
//! ```
//!
//! A short payload comes with the answer, and is stored without another call of the host.

use super::counting::Counter;
use crate::abi::{self, SHORT, SHORT_BYTES_MAX, Shape};
use wasm_encoder::{BlockType, Function, InstructionSink, MemArg, ValType};

/// What glue is made with.
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
    /// The function that stands for this one, whose raw one is imported.
    pub(super) fn function(&self, import: u32, function: &abi::Function) -> Function {
        let params = function.params.len() as u32;
        let answer = params;
        let lists = function.shape.leaves_lists();
        let answers = encoded(function.shape.raw_answers());
        let room = ValType::I32;
        let locals = answers.iter().chain([&room]).map(|ty| (1, *ty));
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
            let room = |code: &mut InstructionSink<'_>| {
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
                // Its alignment is above its size, as that of lists.
                code.local_get(answer).i64_const(!SHORT).i64_and();
                code.local_set(answer);
                room(&mut code);
                self.store_short(&mut code, params, pointer_at);
                code.else_();
            }
            code.loop_(BlockType::Empty);
            room(&mut code);
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

    /// Takes the address on the stack, and stores there what has come with the answer; and the address where it belongs,
    /// behind the result, whose address is the last parameter.
    fn store_short(&self, code: &mut InstructionSink<'_>, params: u32, pointer_at: u64) {
        let (answer, low, high, room) = (params, params + 1, params + 2, params + 3);
        let place = |offset| MemArg {
            offset,
            align: 0,
            memory_index: self.memory,
        };
        code.local_set(room);
        code.local_get(params - 1)
            .local_get(room)
            .i32_store(place(pointer_at));
        let has = |code: &mut InstructionSink<'_>, bytes: i64| {
            code.local_get(answer).i64_const(bytes).i64_and();
            code.i64_eqz().i32_eqz().if_(BlockType::Empty);
        };
        has(code, SHORT_BYTES_MAX as i64);
        code.local_get(room).local_get(low).i64_store(place(0));
        code.local_get(room).local_get(high).i64_store(place(8));
        code.else_();
        // Eight bytes, four, two, one: whatever the size is made of.
        has(code, 8);
        code.local_get(room).local_get(low).i64_store(place(0));
        code.local_get(high).local_set(low);
        code.local_get(room).i32_const(8).i32_add().local_set(room);
        code.end();
        for bytes in [4, 2, 1] {
            has(code, bytes);
            code.local_get(room).local_get(low);
            match bytes {
                4 => code.i64_store32(place(0)),
                2 => code.i64_store16(place(0)),
                _ => code.i64_store8(place(0)),
            };
            code.local_get(low).i64_const(8 * bytes).i64_shr_u();
            code.local_set(low);
            code.local_get(room).i32_const(bytes as i32).i32_add();
            code.local_set(room);
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
