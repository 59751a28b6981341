//! What a process's store holds beside the instance: the process seen from inside, its limits, its WASI context.

use crate::process::{Budget, ExitReason};
use crate::system::current::Current;
use crate::wasi::Wasi;
use std::fmt;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime::{Memory, ResourceLimiter};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Elements that all tables of one process may hold together; each takes eight bytes of the host's memory.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// Instances, memories and tables that one process may consist of: a component has several.
const PARTS_MAX: usize = 64;

/// The data of one process's store.
pub(crate) struct State {
    pub(crate) current: Current,
    pub(crate) memory: Option<Memory>,
    /// A list that waits for the guest to make room for it.
    pub(crate) pending: Option<Pending>,
    /// The fuel interval is set to give up the turn at once; whoever goes on sets it back.
    pub(crate) giving_up_turn: bool,
    /// `yield-now` was called and has given up one turn.
    pub(crate) yielded: bool,
    pub(crate) limits: MemoryLimits,
    wasi: Arc<Wasi>,
    preview1: Option<Box<WasiP1Ctx>>,
    preview2: Option<Box<(WasiCtx, ResourceTable)>>,
}

/// A list of bytes, and where in guest memory its pointer and length belong.
pub(crate) struct Pending {
    pub(crate) bytes: PendingBytes,
    pub(crate) pointer_at: u32,
}

/// A payload on its way, not copied again.
pub(crate) enum PendingBytes {
    Payload(crate::process::Payload),
    Bytes(Box<[u8]>),
}

impl PendingBytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            PendingBytes::Payload(payload) => payload,
            PendingBytes::Bytes(bytes) => bytes,
        }
    }
}

impl State {
    pub(crate) fn new(current: Current, memory_bytes_max: u64, wasi: Arc<Wasi>) -> State {
        State {
            current,
            memory: None,
            pending: None,
            giving_up_turn: false,
            yielded: false,
            limits: MemoryLimits::new(memory_bytes_max),
            wasi,
            preview1: None,
            preview2: None,
        }
    }

    /// The context for WASI preview 1, made when it is first asked for: most processes never do.
    pub(crate) fn preview1(&mut self) -> &mut WasiP1Ctx {
        let wasi = &self.wasi;
        self.preview1
            .get_or_insert_with(|| Box::new(wasi.preview1()))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = &self.wasi;
        let (ctx, table) = &mut **self
            .preview2
            .get_or_insert_with(|| Box::new(wasi.preview2()));
        WasiCtxView { ctx, table }
    }
}

/// Counts what a process's linear memories and tables hold, and refuses more than its limit.
#[derive(Debug)]
pub(crate) struct MemoryLimits {
    bytes: u64,
    bytes_max: u64,
    elements: usize,
}

impl MemoryLimits {
    fn new(bytes_max: u64) -> MemoryLimits {
        MemoryLimits {
            bytes: 0,
            bytes_max,
            elements: 0,
        }
    }
}

impl ResourceLimiter for MemoryLimits {
    // What a memory's or table's own maximum forbids is not counted, because it will not come about. A growth that
    // fails for want of a slot stays counted: then there is no more to be had anyway.

    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add((desired - current) as u64);
        if bytes > self.bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired - current);
        if elements > TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// Carries a process's own end out of its guest code.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) ExitReason);

impl Exit {
    pub(crate) fn exhausted(budget: Budget) -> wasmtime::Error {
        wasmtime::Error::from(Exit(ExitReason::Exhausted(budget)))
    }
}

impl std::error::Error for Exit {}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the process ends: {}", self.0)
    }
}
