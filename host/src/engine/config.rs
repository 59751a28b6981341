//! How wasmtime is configured, and why.

use super::slots::{HOST_STACK_BYTES, Memories, Slots, Stacks};
use crate::rewriter::{COMPONENTS, GROWTH_COST, LIBRARY_CALL_COST};
use crate::system::Config;
use std::sync::Arc;
use wasmtime::{OperatorCost, WasmBacktraceDetails, WasmFeatures};

/// Frames of a backtrace that are kept: enough to find the fault, but not a whole runaway recursion.
const BACKTRACE_FRAMES: usize = 16;

/// The counter of reductions in an engine's programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// The module itself, by code that the rewriter has put in.
    Module,
    /// wasmtime, as fuel.
    Fuel,
}

/// Makes an engine that programs of a system share.
pub(super) fn engine(
    config: &Config,
    slots: &Arc<Slots>,
    counts: Counts,
) -> wasmtime::Result<wasmtime::Engine> {
    let mut wasm = compiler(counts)?;
    wasm.with_host_memory(Arc::new(Memories(slots.clone())));
    wasm.with_host_stack(Arc::new(Stacks(slots.clone())));
    wasm.max_wasm_stack(config.max_stack);
    wasm.async_stack_size(stack_bytes(config));
    wasm.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
    wasmtime::Engine::new(&wasm)
}

/// Configures the compiler. Its code runs in every engine that has this configuration, whatever else that engine is
/// told.
pub(super) fn compiler(counts: Counts) -> wasmtime::Result<wasmtime::Config> {
    let mut wasm = wasmtime::Config::new();
    set_features(&mut wasm);
    wasm.memory_init_cow(false); // Copy-on-write images can't be mapped into host memories.
    wasm.memory_guard_size(0);
    wasm.guard_before_linear_memory(false);
    // All of a slot is accessible. With a reservation, wasmtime would leave out the bounds check for a memory that
    // can't outgrow it, because it expects nothing behind it: `(memory 0 1)` would be readable, and writable, below 64
    // KiB.
    wasm.memory_reservation(0);
    wasm.memory_reservation_for_growth(0);
    // Only the rewriter's branch hints count: it removes the guest's own.
    wasm.wasm_branch_hinting(counts == Counts::Module);
    if counts == Counts::Fuel {
        wasm.consume_fuel(true);
        wasm.operator_cost(reductions()?);
    }
    // Component-model concurrency doubles the cost of calls, and nothing here uses it.
    wasm.concurrency_support(false);
    // Backtraces take function names from the name section; wasmtime does not parse a hostile module's DWARF.
    wasm.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    Ok(wasm)
}

/// Turns on the features of the list, and turns off all others.
fn set_features(wasm: &mut wasmtime::Config) {
    wasm.wasm_features(WasmFeatures::all().difference(COMPONENTS), false);
    wasm.wasm_features(COMPONENTS, true);
}

/// The size of every native stack.
pub(super) fn stack_bytes(config: &Config) -> usize {
    (config.max_stack + HOST_STACK_BYTES).next_multiple_of(4 << 10)
}

/// The costs that make fuel count reductions: calls, branches, and instructions that call the host's library.
/// Straight-line code is free, because it ends.
///
/// `br_if` must never be free, or a loop could not be preempted. Bulk operations keep wasmtime's costs by size.
fn reductions() -> wasmtime::Result<OperatorCost> {
    // The table has a field for each of some six hundred operators and no constructor that sets them all. It can be
    // written as JSON and read back.
    let mut table = serde_json::to_value(OperatorCost::new())?;
    let operators = table
        .as_object_mut()
        .ok_or_else(|| wasmtime::format_err!("the cost table is an object"))?;
    for (operator, cost) in operators.iter_mut() {
        if cost.is_number() {
            *cost = match operator.as_str() {
                "Br" | "BrIf" | "BrTable" | "BrOnNull" | "BrOnNonNull" => 1,
                "MemoryGrow" | "TableGrow" => GROWTH_COST,
                "MemoryInit" | "DataDrop" | "ElemDrop" | "RefFunc" | "TableGet" | "TableSet"
                | "TableInit" | "TableCopy" | "TableFill" => LIBRARY_CALL_COST,
                _ => 0,
            }
            .into();
        }
    }
    Ok(serde_json::from_value(table)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewriter::examples::{OFF, ON, binary};
    use wasmtime::{Engine, Module};

    fn engine() -> Engine {
        let mut config = wasmtime::Config::new();
        set_features(&mut config);
        Engine::new(&config).expect("the list fits this build of wasmtime")
    }

    #[test]
    fn wasmtime_refuses_features_that_are_off() {
        let engine = engine();
        for text in OFF {
            assert!(Module::validate(&engine, &binary(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn wasmtime_compiles_features_that_are_on() {
        let engine = engine();
        for text in ON {
            Module::new(&engine, binary(text)).expect(text);
        }
    }
}
