//! Executions: a function of a program, as a future that the system polls once a turn.

use super::arena::CallPlace;
use super::inhabitant::{Inhabitant, Legacy, Outcome};
use super::packing::Templates;
use super::ready;
use super::recycling::{Made, Parts, Recycling};
use super::slots::{
    Canary, Home, HomeClass, PAGE_BYTES, Slots, Warm, Written, at_home, moved_reductions,
};
use super::state::{Exit, MemoryLimits, State, survives};
use crate::process::{Budget, ExitReason};
use crate::rewriter::{Analysis, COUNTER, ENTRY, Originals, Sizes, readable};
use crate::system::Rights;
use crate::system::current::Current;
use crate::system::program::{Body, End, Ending, NewProcess, Runnable, SpawnError};
use crate::wasi::Wasi;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use wasmtime::component::{self, types::ComponentItem};
use wasmtime::{CallHook, Engine, InstancePre, Module, ModuleExport, Store, WasmBacktrace};

/// A component's slice ends by fuel, but its fuel never runs out: it starts with this much, and the difference counts
/// its reductions.
const FUEL: u64 = u64::MAX;

/// The most that a component may pass to a host call beside a payload: names, options.
const LIFTED_BESIDE_MESSAGE_BYTES: usize = 64 << 10;

/// A loaded program: the part that both kinds have in common, and the part of its kind.
pub(super) struct Program<K: Kind> {
    common: Common,
    functions: Vec<(String, K::Export)>,
    /// The index of each function, by its name.
    by_name: HashMap<String, u32>,
    /// The index of the function that runs when none is named.
    entry: u32,
    kind: K,
}

/// A way to run programs.
pub(super) trait Kind: Send + Sync + Sized {
    /// Identifies an exported function.
    type Export: Send + Sync;

    /// Whether its processes can wait in a host call that something other than mail completes.
    fn has_host_calls(&self) -> bool;

    /// Whether the function with this index of its module is the guest's own.
    fn is_guest_function(&self, index: u32) -> bool;

    /// Makes an instance that is about to run a function.
    fn start(
        program: &Program<Self>,
        function: u32,
        process: NewProcess,
    ) -> Result<Body, SpawnError>;
}

/// The part of a program that both kinds need to make a process.
pub(super) struct Common {
    pub(super) engine: Engine,
    pub(super) slots: Arc<Slots>,
    pub(super) wasi: Arc<Wasi>,
    pub(super) name: String,
    pub(super) home: HomeClass,
    pub(super) warm: Warm,
    pub(super) sizes: Sizes,
    /// The rights that its imports need.
    pub(super) needs: Rights,
    pub(super) legacy: Arc<Legacy>,
}

impl Common {
    /// Opens the directories that a process sees, if it sees only some. What this allocates stays when the process ends,
    /// so it must not be called while allocations go into the process's arena.
    fn open_directories(&self, process: &NewProcess) -> Result<(), SpawnError> {
        let Some(paths) = &process.domain().capabilities.directories else {
            return Ok(());
        };
        let opened = self.wasi.open_some(paths);
        opened.map_err(|error| SpawnError::Other(error.to_string()))
    }

    fn store(&self, process: NewProcess) -> Result<Store<State>, SpawnError> {
        let bytes_max = process.domain().each.memory_bytes_max;
        let limits = MemoryLimits::new(bytes_max, self.sizes.instance_bytes);
        let mut state = State::new(Current::new(process), limits, self.wasi.clone());
        if !state.begin() {
            return Err(SpawnError::NoMemory);
        }
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| state);
        Ok(store)
    }

    /// A store for the component path, in which wasmtime counts the reductions.
    pub(super) fn fuelled_store(&self, process: NewProcess) -> Result<Store<State>, SpawnError> {
        let slice_reductions = process.shared.config.reductions;
        let message_bytes_max = process.shared.config.max_message as usize;
        let mut store = self.store(process)?;
        store.set_fuel(FUEL).expect("the engine counts fuel");
        // wasmtime copies a host call's arguments before the host looks at them: the fuel bounds the copy.
        store.set_hostcall_fuel(message_bytes_max + LIFTED_BESIDE_MESSAGE_BYTES);
        store
            .fuel_async_yield_interval(Some(slice_reductions.into()))
            .expect("the engine counts fuel");
        // A process with a pending exit completes no call of the host: neither one of the contract, nor of WASI, nor
        // one of wasmtime's own.
        store.call_hook(|mut guest, hook| match hook {
            CallHook::CallingHost => survives(&guest.data().current),
            CallHook::ReturningFromHost => {
                guest.data_mut().current.charge(moved_reductions());
                Ok(())
            }
            CallHook::CallingWasm | CallHook::ReturningFromWasm => Ok(()),
        });
        Ok(store)
    }

    pub(super) fn home(&self, written: &Written) -> Result<Arc<Home>, SpawnError> {
        self.slots
            .home(self.home, self.warm, written)
            .map_err(|_| SpawnError::NoMemory)
    }
}

impl<K: Kind> Runnable for Program<K> {
    fn name(&self) -> &str {
        &self.common.name
    }

    fn function(&self, name: &str) -> Option<u32> {
        if name.is_empty() {
            return Some(self.entry);
        }
        self.by_name.get(name).copied()
    }

    fn function_name(&self, function: u32) -> &str {
        &self.functions[function as usize].0
    }

    fn function_names(&self) -> Vec<String> {
        self.functions
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn is_guest_function(&self, index: u32) -> bool {
        self.kind.is_guest_function(index)
    }

    fn needs(&self) -> Rights {
        self.common.needs
    }

    fn has_host_calls(&self) -> bool {
        self.kind.has_host_calls()
    }

    fn instance_bytes(&self) -> u64 {
        self.common.sizes.written_bytes()
    }

    fn start(&self, function: u32, process: NewProcess) -> Result<Body, SpawnError> {
        if self.common.sizes.all_bytes() > process.domain().each.memory_bytes_max {
            return Err(SpawnError::NoMemory);
        }
        K::start(self, function, process)
    }
}

/// The index of each function, by its name; the first of several.
fn by_name<E>(functions: &[(String, E)]) -> HashMap<String, u32> {
    let indexes = (0..functions.len() as u32).zip(functions).rev();
    indexes
        .map(|(index, (name, _))| (name.clone(), index))
        .collect()
}

/// The flattened path: one core module, its imports linked as core functions.
pub(super) struct Core {
    instance: InstancePre<State>,
    memory: Option<ModuleExport>,
    entry: ModuleExport,
    /// The global that holds the rest of the slice.
    counter: ModuleExport,
    imports_wasi: bool,
    originals: Originals,
    /// An instance was made, and with it everything that the program's instances share.
    has_made: AtomicBool,
    /// The arena bytes that the last instance took.
    arena_bytes: AtomicUsize,
    /// The part of the memory that its data fills.
    data: Range<usize>,
}

thread_local! {
    /// An instance was made on this thread, and with it everything that the thread's instances share.
    static HAS_MADE: Cell<bool> = const { Cell::new(false) };
}

impl Program<Core> {
    pub(super) fn core(
        common: Common,
        module: &Module,
        instance: InstancePre<State>,
        analysis: &Analysis,
        entry: usize,
    ) -> Program<Core> {
        let legacy = Arc::new(Legacy {
            templates: Templates::default(),
            self_test: common.legacy.self_test.clone(),
            recycling: Recycling::new(analysis, module),
        });
        let functions = analysis
            .functions
            .iter()
            .map(|(name, _)| (name.clone(), ()));
        let own = |name| {
            let export = module.get_export_index(name);
            export.expect("the rewriter exports it")
        };
        let functions: Vec<_> = functions.collect();
        Program {
            by_name: by_name(&functions),
            functions,
            entry: entry as u32,
            kind: Core {
                instance,
                memory: module.get_export_index("memory"),
                entry: own(ENTRY),
                counter: own(COUNTER),
                imports_wasi: analysis.imports_wasi(),
                originals: Originals::of(analysis),
                has_made: AtomicBool::new(false),
                arena_bytes: AtomicUsize::new(0),
                data: dense_data(analysis),
            },
            common: Common { legacy, ..common },
        }
    }

    /// The parts that all kinds of programs have.
    pub(super) fn common(&self) -> &Common {
        &self.common
    }

    pub(super) fn closing(&self) -> Closing {
        Closing {
            counter: self.kind.counter,
            originals: self.kind.originals,
            is_recycled: self.common.legacy.recycling.is_some(),
        }
    }

    /// A recycled instance for a process, or else a new one.
    #[inline]
    pub(super) fn make(&self, process: NewProcess) -> Result<Made, SpawnError> {
        self.common.open_directories(&process)?;
        let recycling = self.common.legacy.recycling.as_ref();
        let Some(mut made) = recycling.and_then(Recycling::take) else {
            return self.kind.make(&self.common, process);
        };
        let limits_at_first = made.parts.limits;
        let state = made.parts.store.data_mut();
        match state.occupy(Current::new(process), limits_at_first) {
            true => Ok(made),
            false => {
                recycling.inspect(|recycling| recycling.put_back(made));
                Err(SpawnError::NoMemory)
            }
        }
    }
}

/// The part of its first memory that a module's data fills, if it leaves no holes of whole pages.
fn dense_data(analysis: &Analysis) -> Range<usize> {
    match analysis.initial.data_bytes() + PAGE_BYTES >= analysis.data.len() {
        true => analysis.data.clone(),
        false => 0..0,
    }
}

impl Kind for Core {
    /// None: the module's entry takes the function's index.
    type Export = ();

    fn has_host_calls(&self) -> bool {
        self.imports_wasi
    }

    fn is_guest_function(&self, index: u32) -> bool {
        self.originals.index(index).is_some()
    }

    fn start(
        program: &Program<Core>,
        function: u32,
        process: NewProcess,
    ) -> Result<Body, SpawnError> {
        let mut made = program.make(process)?;
        let legacy = program.common.legacy.clone();
        // The future captures them one by one: with the whole struct, a hibernated process costs 1 % more instructions.
        let Closing {
            counter,
            originals,
            is_recycled,
        } = program.closing();
        let home = made.home.clone();
        let run = async move {
            let Parts { store, entry, .. } = &mut *made.parts;
            let result = entry.call_async(store, (function as i32,)).await;
            let closing = Closing {
                counter,
                originals,
                is_recycled,
            };
            outcome(made, result, closing)
        };
        // wasmtime asks for the stack in the first turn, unless instantiation or an earlier process has had it.
        Ok(Box::new(Inhabitant::new(home, legacy, run)))
    }
}

/// The facts about a program that the end of its processes needs.
#[derive(Clone, Copy)]
pub(super) struct Closing {
    counter: ModuleExport,
    originals: Originals,
    is_recycled: bool,
}

/// The result of a process. It is a function of its own because the future is polled every turn, and polling it is
/// cheaper when this code is not inlined there.
#[inline(never)]
pub(super) fn outcome(mut made: Made, result: wasmtime::Result<i64>, closing: Closing) -> Outcome {
    let Closing {
        counter,
        originals,
        is_recycled,
    } = closing;
    let parts = &mut *made.parts;
    let (left, result) = match result {
        Ok(left) => (left, Ok(())),
        Err(error) => {
            let counter = parts.instance.get_module_export(&mut parts.store, &counter);
            let left = counter
                .and_then(wasmtime::Extern::into_global)
                .and_then(|counter| counter.get(&mut parts.store).i64());
            (left.expect("the counter is an i64"), Err(error))
        }
    };
    let counted = parts.store.data_mut().count(left);
    let name = |frame: &wasmtime::FrameInfo| {
        let index = originals.index(frame.func_index())?;
        Some(frame_name(frame, index))
    };
    let end = end(&parts.store, counted, result, name);
    (end, is_recycled.then_some(made))
}

impl Core {
    /// Makes a new instance for a process.
    fn make(&self, common: &Common, process: NewProcess) -> Result<Made, SpawnError> {
        let home = common.home(&Written {
            arena_bytes: self.arena_bytes.load(Ordering::Relaxed),
            data: self.data.clone(),
        })?;
        let make = |call_place| {
            let mut store = common.store(process)?;
            store.data_mut().call_place = call_place;
            store.data_mut().canary = Some(Canary::of(&home));
            // The rewriter has moved all guest code out of instantiation: it fills memory and tables, and never waits.
            let instance = at_home(&home, || ready(self.instance.instantiate_async(&mut store)))?;
            let memory = self
                .memory
                .as_ref()
                .and_then(|export| instance.get_module_export(&mut store, export));
            store.data_mut().memory = memory.and_then(wasmtime::Extern::into_memory);
            let entry = instance.get_module_export(&mut store, &self.entry);
            let entry = entry.and_then(wasmtime::Extern::into_func);
            let entry = entry.expect("the rewriter exports a function");
            Ok(Box::new(Parts {
                limits: store.data().limits,
                entry: entry.typed(&store)?,
                is_first: true,
                store,
                instance,
            }))
        };
        let is_first = !self.has_made.load(Ordering::Acquire) || !HAS_MADE.get();
        let made = match is_first {
            // SAFETY: the home is new. Its contents are used only through the instance, whose owner also holds the
            // home.
            true => make(unsafe { home.make_instance(CallPlace::reserve) }),
            // SAFETY: as above.
            false => unsafe { home.make_instance(|| make(CallPlace::reserve())) },
        };
        // An error lies in the slot, too, so this drops it before the slot.
        let parts = made.map_err(cannot_start)?;
        self.has_made.store(true, Ordering::Release);
        HAS_MADE.set(true);
        self.arena_bytes
            .store(home.arena().len(), Ordering::Relaxed);
        Ok(Made { parts, home })
    }
}

/// The component path.
pub(super) struct Component {
    instance: component::InstancePre<State>,
    /// The function that is WASI's entry, which returns whether it succeeded.
    wasi_entry: Option<u32>,
}

/// A component that has been compiled and linked.
pub(super) struct Loaded {
    pub(super) common: Common,
    pub(super) component: component::Component,
    pub(super) instance: component::InstancePre<State>,
}

/// The component path's name for WASI's entry.
pub(crate) const WASI_RUN: &str = "wasi:cli/run";

impl Program<Component> {
    /// Finds the functions that can be spawned: exported functions that take and return nothing, and `wasi:cli/run`.
    /// None if there is no entry among them.
    pub(super) fn component(loaded: Loaded) -> Option<Program<Component>> {
        let Loaded {
            common,
            component,
            instance,
        } = loaded;
        let mut functions = Vec::new();
        let mut wasi_entry = None;
        for (name, item) in component.component_type().exports(&common.engine) {
            match item.ty {
                ComponentItem::ComponentFunc(ty)
                    if ty.params().len() == 0 && ty.results().len() == 0 =>
                {
                    functions.push((name.to_owned(), component.get_export_index(None, name)?));
                }
                ComponentItem::ComponentInstance(_) if name.starts_with("wasi:cli/run@0.2.") => {
                    let outer = component.get_export_index(None, name)?;
                    let run = component.get_export_index(Some(&outer), "run")?;
                    wasi_entry = Some(functions.len() as u32);
                    functions.push((WASI_RUN.to_owned(), run));
                }
                _ => {}
            }
        }
        let by_name = by_name(&functions);
        // A WASI command is run as one, whatever else it exports.
        let entry = wasi_entry.or_else(|| by_name.get("run").copied())?;
        let kind = Component {
            instance,
            wasi_entry,
        };
        Some(Program {
            common,
            functions,
            by_name,
            entry,
            kind,
        })
    }
}

impl Kind for Component {
    type Export = component::ComponentExportIndex;

    fn has_host_calls(&self) -> bool {
        true
    }

    fn is_guest_function(&self, _index: u32) -> bool {
        true
    }

    fn start(
        program: &Program<Component>,
        function: u32,
        process: NewProcess,
    ) -> Result<Body, SpawnError> {
        program.common.open_directories(&process)?;
        let home = program.common.home(&Written::default())?;
        let mut store = program.common.fuelled_store(process)?;
        let instance = program.kind.instance.clone();
        let export = program.functions[function as usize].1;
        let returns_result = program.kind.wasi_entry == Some(function);
        // A component's start functions are guest code: they run in the process's own turns.
        let run = async move {
            let result = async {
                let instance = instance.instantiate_async(&mut store).await?;
                if returns_result {
                    let function =
                        instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, export)?;
                    let (outcome,) = function.call_async(&mut store, ()).await?;
                    return outcome.map_err(|()| Exit::own(ExitReason::ExitCode(1)));
                }
                let function = instance.get_typed_func::<(), ()>(&mut store, export)?;
                function.call_async(&mut store, ()).await
            }
            .await;
            end_of_component(&store, result)
        };
        let legacy = program.common.legacy.clone();
        Ok(Box::new(Inhabitant::new(home, legacy, run)))
    }
}

/// The result of a process on the component path.
pub(super) fn end_of_component(store: &Store<State>, result: wasmtime::Result<()>) -> Outcome {
    let used = FUEL - store.get_fuel().unwrap_or(FUEL);
    (end(store, used, result, component_frame_name), None)
}

fn cannot_start(error: wasmtime::Error) -> SpawnError {
    if let Some(error) = error.downcast_ref::<SpawnError>() {
        return error.clone();
    }
    let cause = error.root_cause().to_string();
    // wasmtime has no error type for this: the limit of the process, or of all processes, has refused a memory.
    if cause.ends_with("exceeds memory limits") {
        return SpawnError::NoMemory;
    }
    SpawnError::Other(format!("the program can't be instantiated: {cause}"))
}

/// Turns the result of a finished call into the process's end.
fn end(
    store: &Store<State>,
    counted: u64,
    result: wasmtime::Result<()>,
    name: impl Fn(&wasmtime::FrameInfo) -> Option<String>,
) -> End {
    let reductions = counted + store.data().current.charged();
    let Err(error) = result else {
        return End {
            ending: own_end(ExitReason::Normal),
            reductions,
            backtrace: Vec::new(),
        };
    };
    let ending = if let Some(Exit(ending)) = error.downcast_ref() {
        ending.clone()
    } else if let Some(code) = crate::wasi::exit_code(&error) {
        own_end(match code {
            0 => ExitReason::Normal,
            code => ExitReason::ExitCode(code as u32),
        })
    } else if crate::wasi::exhausted_handles(&error) {
        own_end(ExitReason::Exhausted(Budget::Resources))
    } else {
        own_end(ExitReason::Trap(error.root_cause().to_string().into()))
    };
    let backtrace = if ending.is_crash {
        backtrace(&error, name)
    } else {
        Vec::new()
    };
    End {
        ending,
        reductions,
        backtrace,
    }
}

fn own_end(reason: ExitReason) -> Ending {
    let is_crash = reason.is_crash();
    Ending { reason, is_crash }
}

/// The names of the guest's own functions that were active, innermost first.
fn backtrace(
    error: &wasmtime::Error,
    name: impl Fn(&wasmtime::FrameInfo) -> Option<String>,
) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    backtrace.frames().iter().filter_map(name).collect()
}

/// The name of a function of a rewritten module, for people: loading has made it readable. `index` is the function's
/// index in the original module.
fn frame_name(frame: &wasmtime::FrameInfo, index: u32) -> String {
    match frame.func_name() {
        Some(name) => name.to_owned(),
        None => format!("function {index}"),
    }
}

/// The same for a component, whose modules are compiled as they are. It must not run on a process's own stack: see
/// [`readable`].
fn component_frame_name(frame: &wasmtime::FrameInfo) -> Option<String> {
    Some(match frame.func_name() {
        Some(name) => readable(name),
        None => format!("function {}", frame.func_index()),
    })
}

/// The innermost function of the guest's own that is active.
pub(crate) fn current_function(guest: &wasmtime::Caller<'_, State>) -> Option<String> {
    let backtrace = WasmBacktrace::force_capture(guest);
    let program = &guest.data().current.program;
    let mut frames = backtrace.frames().iter();
    let frame = frames.find(|frame| program.is_guest_function(frame.func_index()))?;
    Some(frame_name(frame, frame.func_index()))
}
