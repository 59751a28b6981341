//! The data of a process's store beside the instance: the process seen from inside, its limits, its WASI context.

use super::arena::CallPlace;
use super::loan::Lender;
use super::slots::{Canary, NotGrown};
use crate::process::{Budget, ExitReason};
use crate::rewriter::TABLE_ELEMENT_BYTES;
use crate::system::current::Current;
use crate::system::domain::Share;
use crate::system::program::Ending;
use crate::system::turn_context;
use crate::wasi::{Guest, Preview1, Wasi};
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime::{Caller, Engine, Memory, ResourceLimiter, Store, WasmBacktrace};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Elements that all tables of one process may hold together; each takes eight bytes of the host's memory.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// So many of them do not count as memory.
const TABLE_ELEMENTS_FREE: usize = 2048;
/// Instances and memories that one process may consist of: a component has several.
const PARTS_MAX: usize = 64;
/// The same for tables, of which a module may have a hundred.
const TABLES_MAX: usize = 128;

/// The data of one process's store.
pub(crate) struct State {
    pub(crate) current: Occupant,
    pub(crate) memory: Option<Memory>,
    /// Lists that wait for the guest to allocate memory for them.
    pub(crate) pending: Option<Pending>,
    /// The loan of bytes of the process's memory, if it has made one. Meanwhile none of the guest's own code runs.
    pub(crate) lender: Option<Lender>,
    /// Reductions that the module has counted in its slices before this one.
    counted: u64,
    /// Watches over the process's stack.
    pub(super) canary: Option<Canary>,
    /// Memory for wasmtime's allocation while the process waits, so that a packed process has no allocation outside of
    /// its slot.
    pub(super) call_place: Option<CallPlace>,
    /// `yield-now` was called and has given up one turn.
    pub(crate) yielded: bool,
    pub(crate) limits: MemoryLimits,
    /// The memory that the process holds, as its domain counts it.
    share: Share,
    wasi: Arc<Wasi>,
    preview1: Option<Box<Context<Preview1>>>,
    preview2: Option<Box<Context<(WasiCtx, ResourceTable)>>>,
}

/// The process that an instance belongs to. It is none only while the instance is shelved, when no guest code runs in
/// it that could ask.
pub(crate) struct Occupant(Option<Current>);

impl Deref for Occupant {
    type Target = Current;

    #[inline]
    fn deref(&self) -> &Current {
        self.0.as_ref().expect("guest code runs only for a process")
    }
}

impl DerefMut for Occupant {
    #[inline]
    fn deref_mut(&mut self) -> &mut Current {
        self.0.as_mut().expect("guest code runs only for a process")
    }
}

/// A WASI context, with the files and sockets that its process has open.
struct Context<T> {
    wasi: T,
    /// Counts the context while it exists. It is dropped last, so the handles are closed before the count goes down.
    _counted: Arc<()>,
}

/// Lists on their way into guest memory, one after the other.
pub(crate) struct Pending {
    pub(crate) next: PendingList,
    pub(crate) more: Option<Box<MoreLists>>,
}

/// The lists behind the first one. Few calls have any.
#[derive(Default)]
pub(crate) struct MoreLists {
    /// In reverse order: the next one is the last.
    pub(crate) waiting: Vec<PendingList>,
    /// The addresses in guest memory of the lists that were taken, in order.
    pub(crate) taken: Vec<u32>,
}

/// One list.
pub(crate) struct PendingList {
    pub(crate) bytes: PendingBytes,
    /// The number of its elements, which the guest sees as its length.
    pub(crate) count: u32,
    pub(crate) alignment: u32,
    pub(crate) pointer_at: PointerAt,
}

/// Where a list's pointer and length are written.
#[derive(Clone, Copy)]
pub(crate) enum PointerAt {
    /// At this address.
    Address(u32),
    /// At this offset in the element bytes of another list, which is named by its index among the lists that were
    /// taken.
    Within { list: u32, offset: u32 },
}

/// The bytes of a list, which are copied only once, into guest memory.
pub(crate) enum PendingBytes {
    Payload(crate::process::Payload),
    Bytes(Box<[u8]>),
    /// A name, which others share.
    Name(Arc<str>),
}

impl PendingBytes {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            PendingBytes::Payload(payload) => payload.len(),
            PendingBytes::Bytes(bytes) => bytes.len(),
            PendingBytes::Name(name) => name.len(),
        }
    }

    /// Copies the bytes into a buffer of the same length.
    #[inline]
    pub(crate) fn copy_to(&self, buffer: &mut [u8]) {
        match self {
            PendingBytes::Payload(payload) => payload.copy_to(buffer),
            PendingBytes::Bytes(bytes) => buffer.copy_from_slice(bytes),
            PendingBytes::Name(name) => buffer.copy_from_slice(name.as_bytes()),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            PendingBytes::Payload(payload) => payload.into_vec(),
            PendingBytes::Bytes(bytes) => bytes.into_vec(),
            PendingBytes::Name(name) => name.as_bytes().to_vec(),
        }
    }
}

impl State {
    /// Fills the buffer with random bytes that a guest may use for secrets.
    pub(crate) fn fill_random(&self, buffer: &mut [u8]) {
        self.wasi.fill_random(buffer);
    }

    pub(crate) fn new(current: Current, limits: MemoryLimits, wasi: Arc<Wasi>) -> State {
        State {
            share: Share::of(current.domain(), current.argument.len() as u64),
            current: Occupant(Some(current)),
            memory: None,
            pending: None,
            lender: None,
            counted: 0,
            canary: None,
            call_place: None,
            yielded: false,
            limits,
            wasi,
            preview1: None,
            preview2: None,
        }
    }

    /// Counts what the process holds from the start. Returns false if its domain has not as much memory left.
    pub(super) fn begin(&mut self) -> bool {
        self.share.hold(self.limits.bytes)
    }

    /// The process has ended: drops everything that was its own and keeps what belongs to the instance.
    pub(crate) fn vacate(&mut self) {
        let State { share, current, .. } = self;
        share.move_to(&current.shared.domain, 0);
        self.current.0 = None;
        self.pending = None;
        self.lender = None;
        self.preview1 = None;
        self.preview2 = None;
        self.counted = 0;
        self.yielded = false;
    }

    /// Another process begins in the same instance, which holds `limits` from the start. Returns false if its domain
    /// has not as much memory left.
    pub(crate) fn occupy(&mut self, current: Current, limits: MemoryLimits) -> bool {
        self.limits = MemoryLimits {
            bytes_max: current.domain().each.memory_bytes_max,
            ..limits
        };
        let beside = current.argument.len() as u64;
        self.share.move_to(current.domain(), beside);
        let is_there = self.share.hold(self.limits.bytes);
        current.entry().holds_memory(self.limits.bytes);
        self.current = Occupant(Some(current));
        is_there
    }

    /// The process's memories and tables will hold so much. Returns false if the share has not as much left.
    fn try_hold(&mut self, limits: MemoryLimits) -> bool {
        let is_there = self.share.hold(limits.bytes);
        if is_there {
            self.limits = limits;
            self.current.entry().holds_memory(limits.bytes);
        }
        is_there
    }

    /// The process is about to pause, in order to wait for an answer that the host will write to this address of its
    /// memory.
    ///
    /// # Safety
    ///
    /// The caller makes the called host function answer "again". So until the pause only the rewriter's glue runs,
    /// which neither allocates nor traps.
    #[inline]
    pub(crate) unsafe fn prepare_to_wait(&self, answer: u32) {
        turn_context::await_answer_at(answer);
        if let Some(place) = &self.call_place {
            // SAFETY: until the pause wasmtime allocates only for the call of `pause`, and the call that used the place
            // before is over.
            unsafe { place.open() };
        }
    }

    /// The process pauses with `left` reductions left of its slice. Returns how many reductions the module has counted
    /// in all.
    #[inline]
    pub(crate) fn pauses(&mut self, left: i64) -> u64 {
        if let Some(place) = &self.call_place {
            let is_used = place.close();
            assert!(
                is_used || !cfg!(any(test, debug_assertions)),
                "what wasmtime allocates does not fit"
            );
        }
        self.count(left)
    }

    /// A slice ends with `left` reductions left of it. Returns how many reductions the module has counted in all.
    #[inline]
    pub(super) fn count(&mut self, left: i64) -> u64 {
        let slice = i64::from(self.current.shared.config.reductions);
        self.counted += (slice - left).cast_unsigned();
        self.counted
    }
}

/// Whether the host has never overflowed the process's stack. `here` is an address in one of its frames.
#[inline]
pub(crate) fn is_stack_intact(guest: &Caller<'_, State>, here: usize) -> bool {
    let state = guest.data();
    let memory = || match state.memory {
        Some(memory) => {
            let start = memory.data_ptr(guest).addr();
            start..start + memory.data_size(guest)
        }
        None => 0..0,
    };
    let canary = state.canary;
    !canary.is_some_and(|canary| canary.has_died(here, memory))
}

/// The error that ends a process whose stack the host has overflowed.
#[cold]
pub(crate) fn stack_overflow() -> wasmtime::Error {
    tracing::error!("the host has overflowed the stack of a process; this is a defect of Atoll");
    wasmtime::Error::msg("the host has overflowed the process's stack; this is a defect of Atoll")
}

impl Guest for State {
    /// Makes the context at the first call: most processes never use it.
    fn preview1(&mut self) -> &mut Preview1 {
        let (wasi, current) = (&self.wasi, &self.current);
        let context = self.preview1.get_or_insert_with(|| {
            Box::new(Context {
                wasi: wasi.preview1(&current.wasi_part()),
                _counted: wasi.counted(),
            })
        });
        &mut context.wasi
    }

    fn survives(&self) -> wasmtime::Result<()> {
        survives(&self.current)
    }

    fn pay(&mut self, reductions: u64) -> bool {
        self.current.charge(reductions);
        let owes = self.current.owes_pause();
        if owes {
            self.current.pauses();
        }
        owes
    }
}

/// Counts what the process's memories and tables hold, and publishes the memories' bytes in the process's entry.
impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let mut limits = self.limits;
        let grows = limits.memory_growing(current, desired, maximum);
        Ok(grows && self.try_hold(limits))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let mut limits = self.limits;
        let grows = limits.table_growing(current, desired, maximum);
        Ok(grows && self.try_hold(limits))
    }

    /// A growth that was counted has failed.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if let Some(NotGrown { grown_bytes }) = error.downcast_ref() {
            let bytes = self.limits.bytes.saturating_sub(*grown_bytes as u64);
            self.try_hold(MemoryLimits {
                bytes,
                ..self.limits
            });
        }
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (wasi, current) = (&self.wasi, &self.current);
        let context = self.preview2.get_or_insert_with(|| {
            Box::new(Context {
                wasi: wasi.preview2(&current.wasi_part()),
                _counted: wasi.counted(),
            })
        });
        let (ctx, table) = &mut context.wasi;
        WasiCtxView { ctx, table }
    }
}

/// Counts what a process's linear memories and tables hold, and refuses more than its limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryLimits {
    bytes: u64,
    bytes_max: u64,
    elements: usize,
}

impl MemoryLimits {
    /// For a process whose instance takes so much beside its memories and tables.
    pub(super) fn new(bytes_max: u64, instance_bytes: u64) -> MemoryLimits {
        MemoryLimits {
            bytes: instance_bytes,
            bytes_max,
            elements: 0,
        }
    }
}

impl MemoryLimits {
    // A growth beyond the memory's or table's own maximum is not counted: wasmtime refuses it.

    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let bytes = self.bytes.saturating_add((desired - current) as u64);
        if bytes > self.bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.bytes = bytes;
        true
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let more = desired - current;
        let elements = self.elements.saturating_add(more);
        // Every instance has small tables, so they are not counted.
        let counted = elements.saturating_sub(TABLE_ELEMENTS_FREE).min(more) as u64;
        let bytes = self.bytes.saturating_add(counted * TABLE_ELEMENT_BYTES);
        let is_too_much = elements > TABLE_ELEMENTS_MAX || bytes > self.bytes_max;
        if is_too_much || maximum.is_some_and(|maximum| desired > maximum) {
            return false;
        }
        self.elements = elements;
        self.bytes = bytes;
        true
    }
}

/// Carries a process's end out of its guest code.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) Ending);

thread_local! {
    /// A store in which nothing runs.
    static EMPTY_STORE: Store<()> = Store::new(&Engine::default(), ());
    /// The backtrace without frames for the error that ends the next process.
    static NO_FRAMES: Cell<Option<WasmBacktrace>> = const { Cell::new(None) };
}

/// Runs `work`, in which a process is told to end, without taking a backtrace. The backtrace would be most of the work,
/// and no report shows where a killed process waited. wasmtime takes none for an error that already has one, so the
/// error gets one without frames.
pub(super) fn without_backtrace<T>(work: impl FnOnce() -> T) -> T {
    NO_FRAMES.set(Some(
        EMPTY_STORE.with(|store| WasmBacktrace::capture(store)),
    ));
    let done = work();
    NO_FRAMES.set(None);
    done
}

impl Exit {
    /// The process ends by itself, or by a fault of its own.
    pub(crate) fn own(reason: ExitReason) -> wasmtime::Error {
        let is_crash = reason.is_crash();
        wasmtime::Error::from(Exit(Ending { reason, is_crash }))
    }

    /// Another process or the host has told the process to end.
    pub(crate) fn told(ending: Ending) -> wasmtime::Error {
        let error = wasmtime::Error::from(Exit(ending));
        match NO_FRAMES.take() {
            Some(none) => error.context(none),
            None => error,
        }
    }

    pub(crate) fn exhausted(budget: Budget) -> wasmtime::Error {
        Exit::own(ExitReason::Exhausted(budget))
    }
}

/// Ends the guest if its process has a pending exit, which it may just have caused itself. A host function asks at its
/// beginning, and after any step whose answer depends on whether the process is dead.
#[inline]
pub(crate) fn survives(current: &Current) -> wasmtime::Result<()> {
    match current.is_doomed() {
        false => Ok(()),
        true => doom(current),
    }
}

#[cold]
fn doom(current: &Current) -> wasmtime::Result<()> {
    match current.doom() {
        None => Ok(()),
        Some(ending) => Err(Exit::told(ending)),
    }
}

impl std::error::Error for Exit {}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the process ends: {}", self.0.reason)
    }
}
