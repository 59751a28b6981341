//! Instances whose process has ended, restored for the next process of the same program.
//!
//! This file knows the parts of an instance that can have changed and restores them: its memory, its mutable globals,
//! and the process's data in its store. Its tables and segments can't have changed, or its program is not recycled
//! ([`Initial`]). Nor is an instance recycled whose memory has grown, or whose process was killed while it ran. It does
//! not matter whether the process returned from its function, exited or trapped: its stack is unwound in each case.
//!
//! ```text
//!   process ends ──► vacate: mailbox, WASI context, … dropped ──► worn ──► renew: memory, globals ──► ready ──► process
//! ```
//!
//! Several become ready at once, because the kernel takes their pages back in one call: half of the cost is the call.

use super::page_map;
use super::slots::{Home, Image, PAGE_BYTES, PageSurvey, Renewed, Slots, Warm};
use super::state::{MemoryLimits, State};
use super::thread_number;
use crate::broken::{Rule, breaks};
use crate::rewriter::{Analysis, GLOBAL_PREFIX, Initial, Value};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use wasmtime::{Instance, Module, ModuleExport, Store, TypedFunc, Val};

/// Instances that one shelf holds, of one program. Some thirty kilobytes each.
const SHELF_MAX: usize = 64;
/// A shelf for each scheduler thread, up to so many.
const SHELVES: usize = 16;
/// Instances that are renewed together.
const RENEWED_AT_ONCE: usize = 8;

/// An instance, with everything that is its own.
pub(super) struct Made {
    /// They lie in the home's arena; those of a program's first instance do not.
    pub(super) parts: Box<Parts>,
    /// Dropped last.
    pub(super) home: Arc<Home>,
}

/// An instance in its store.
pub(super) struct Parts {
    pub(super) store: Store<State>,
    pub(super) instance: Instance,
    /// The use of memory and tables when it was made.
    pub(super) limits: MemoryLimits,
    /// Runs the function with this index, and returns what is left of the last slice.
    pub(super) entry: TypedFunc<(i32,), i64>,
    /// Only one process has had it.
    pub(super) is_first: bool,
}

impl Made {
    /// The home, and the memory if there is one.
    fn memory(&mut self) -> Option<(&Home, &mut [u8])> {
        let store = &mut self.parts.store;
        let memory = store.data().memory?;
        Some((&self.home, memory.data_mut(store)))
    }
}

/// The data to restore instances of a program, and the restored instances.
pub(super) struct Recycling {
    initial: Initial,
    /// The initial memory; the pages around its data stay.
    image: Image,
    /// The initial memory; the pages stay that the survey has found.
    learned: OnceLock<Image>,
    survey: Mutex<PageSurvey>,
    memory_bytes: usize,
    globals: Box<[(ModuleExport, Val)]>,
    shelves: [Mutex<Shelf>; SHELVES],
}

/// Instances without a process.
#[derive(Default)]
struct Shelf {
    /// Restored except for pages that have yet to go back; fewer than are renewed together.
    worn: Vec<Renewed<Made>>,
    /// Fully restored.
    ready: Vec<Made>,
}

/// Why instances of a module can be used only once, if so.
pub(crate) fn obstacle(analysis: &Analysis) -> Option<&'static str> {
    let memory = analysis.memory;
    let data_fits = || {
        let warm = Warm::around(&analysis.data).within(first_memory_bytes(analysis));
        analysis.initial.lies_within(warm)
    };
    analysis.initial.obstacle().or_else(|| match memory {
        Some(_) if analysis.exported_memory.is_none() => Some("it does not export its memory"),
        Some((minimum, maximum)) if !Slots::is_at_home(minimum, maximum) => {
            Some("its memory is large from the start")
        }
        _ if !data_fits() => Some("its data is too far apart"),
        _ => None,
    })
}

impl Recycling {
    /// None if instances of this program can be used only once.
    pub(super) fn new(analysis: &Analysis, module: &Module) -> Option<Recycling> {
        if obstacle(analysis).is_some() {
            return None;
        }
        let memory_bytes = first_memory_bytes(analysis);
        let initial = analysis.initial.clone();
        let warm = Warm::around(&analysis.data).pages(memory_bytes);
        let holds_data = |page: &u32| {
            let start = *page as usize * PAGE_BYTES;
            let bytes = initial.bytes(start..(start + PAGE_BYTES).min(memory_bytes));
            bytes.iter().any(|byte| *byte != 0)
        };
        let globals = analysis.initial.globals.iter().map(|(index, value)| {
            let export = module.get_export_index(&format!("{GLOBAL_PREFIX}{index}"));
            (
                export.expect("the rewriter exports every mutable global"),
                (*value).into(),
            )
        });
        Some(Recycling {
            image: Image::new(memory_bytes, &warm, |part| initial.bytes(part)),
            learned: OnceLock::new(),
            survey: Mutex::new(PageSurvey::new(warm.into_iter().filter(holds_data))),
            initial,
            memory_bytes,
            globals: globals.collect(),
            shelves: Default::default(),
        })
    }

    /// Takes a restored instance, if there is one: from this thread's shelf, or else from another's.
    pub(super) fn take(&self) -> Option<Made> {
        let own = self.shelf().ready.pop();
        let mut made = own.or_else(|| {
            let others = self.shelves.iter();
            others
                .flat_map(|shelf| shelf.try_lock())
                .find_map(|mut shelf| shelf.ready.pop())
        })?;
        made.home.use_again();
        made.parts.is_first = false;
        #[cfg(any(test, debug_assertions))]
        let made = self.assert_as_new(made);
        Some(made)
    }

    /// Keeps an instance for another process. The caller has dropped the execution of its process.
    pub(super) fn put_back(&self, mut made: Made) {
        made.parts.store.data_mut().vacate();
        if !self.reset(&mut made) {
            return;
        }
        if !made.home.shelve() {
            return;
        }
        let image = self.learned.get().unwrap_or_else(|| {
            self.learn(&made);
            &self.image
        });
        let renewed = Renewed::new(made, Made::memory, image);
        let mut shelf = self.shelf();
        if shelf.ready.len() >= SHELF_MAX {
            return;
        }
        shelf.worn.push(renewed);
        if shelf.worn.len() < RENEWED_AT_ONCE {
            return;
        }
        let worn = std::mem::replace(&mut shelf.worn, Vec::with_capacity(RENEWED_AT_ONCE));
        drop(shelf);
        let ready = Renewed::finish(worn);
        self.shelf().ready.extend(ready);
    }

    /// Restores everything but the memory. Returns false if that can't be done, or if the memory has grown or moved.
    fn reset(&self, made: &mut Made) -> bool {
        let Parts {
            store, instance, ..
        } = &mut *made.parts;
        if let Some(memory) = store.data().memory {
            let bytes = memory.data(&store);
            if bytes.len() != self.memory_bytes || !made.home.holds(bytes) {
                return false;
            }
        }
        breaks(Rule::GlobalStays)
            || self.globals.iter().all(|(export, value)| {
                let global = instance.get_module_export(&mut *store, export);
                let global = global.and_then(wasmtime::Extern::into_global);
                global.is_some_and(|global| global.set(&mut *store, *value).is_ok())
            })
    }

    /// Counts the pages that the process has touched, if no other process of this program had the memory. (If a process
    /// of another program had the slot before, it may have left pages there, which are counted as well.)
    #[cold]
    fn learn(&self, made: &Made) {
        if !made.parts.is_first || made.home.forgot_memory() {
            return;
        }
        let Some(memory) = made.home.first_memory() else {
            return;
        };
        let mut survey = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        if survey.is_over() {
            return;
        }
        let mut touched = Vec::new();
        if !page_map::touched(memory, &mut touched) {
            return survey.give_up();
        }
        if let Some(pages) = survey.record(&touched) {
            let image = Image::new(self.memory_bytes, &pages, |part| self.initial.bytes(part));
            let _ = self.learned.set(image);
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        let shelf = &self.shelves[thread_number() % SHELVES];
        shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the instance with the module's initial state, byte for byte.
    #[cfg(any(test, debug_assertions))]
    fn assert_as_new(&self, mut made: Made) -> Made {
        let Parts {
            store, instance, ..
        } = &mut *made.parts;
        if let Some(memory) = store.data().memory {
            let bytes = memory.data(&store);
            assert_eq!(bytes.len(), self.memory_bytes);
            assert!(self.image.matches(bytes));
            assert!(self.learned.get().is_none_or(|image| image.matches(bytes)));
        }
        for (export, value) in &self.globals {
            let global = instance.get_module_export(&mut *store, export);
            let global = global.and_then(wasmtime::Extern::into_global);
            let found = global.map(|global| global.get(&mut *store));
            // Compared as texts, which show the bits of NaNs.
            assert_eq!(format!("{found:?}"), format!("{:?}", Some(value)));
        }
        made
    }
}

fn first_memory_bytes(analysis: &Analysis) -> usize {
    analysis.memory.map_or(0, |(minimum, _)| minimum as usize)
}

impl From<Value> for Val {
    fn from(value: Value) -> Val {
        match value {
            Value::I32(value) => Val::I32(value),
            Value::I64(value) => Val::I64(value),
            Value::F32(bits) => Val::F32(bits),
            Value::F64(bits) => Val::F64(bits),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Guests that try to find out what an earlier process has done. `assert_as_new` also compares each instance that is used
    //! again byte for byte.

    use super::RENEWED_AT_ONCE;
    use crate::{Config, ExitReason, Limits, Program, Spawn, Status, System};

    /// `scribble` changes all that can be changed; `look` traps if anything differs from the module's initial state.
    const VICTIM: &str = r#"(module
        (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
        (import "atoll-rt:process/lifecycle@0.2.0" "exit" (func $exit (param i32 i32 i32)))
        (memory (export "memory") 2 4)
        (table 2 funcref) (elem (i32.const 1) func $look)
        (global $a (mut i32) (i32.const 7)) (global $constant i64 (i64.const 9))
        (global $b (mut i64) (i64.const -1)) (global $c (mut f32) (f32.const nan:0x200001))
        (global $d (export "d") (mut f64) (f64.const -0))
        (data (i32.const 40000) "hello") (data (i32.const 50000) "\ff")
        (start $started)
        ;; The start function is code of the process's own: it runs each time, on what is new.
        (func $started
          (call $must (i32.eq (i32.load8_u (i32.const 60000)) (i32.const 0)))
          (i32.store8 (i32.const 60000) (i32.const 1)))
        (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
        (func (export "run"))
        (func $scribble (export "scribble")
          (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 0x20000))
          (global.set $a (i32.const 1)) (global.set $b (i64.const 1))
          (global.set $c (f32.const 1)) (global.set $d (f64.const 1)))
        (func (export "grow") (drop (memory.grow (i32.const 1))) (call $scribble))
        (func (export "cannot-grow") (call $must (i32.eq (memory.grow (i32.const 1)) (i32.const -1))) (call $scribble))
        (func (export "can-grow") (call $must (i32.eq (memory.grow (i32.const 2)) (i32.const 2))))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "touch") (i32.store8 (i32.const 90000) (i32.const 1)))
        (func (export "trap") (call $scribble) unreachable)
        (func $dive (export "overflow") (call $scribble) (call $dive))
        (func (export "exit") (call $scribble) (call $exit (i32.const 10) (i32.const 0) (i32.const 4)))
        (func (export "wait") (call $scribble)
          (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 2048))
          unreachable)
        (func (export "spin") (call $scribble) (loop $for-ever (br $for-ever)))
        (func $look (export "look")
          (local $at i32) (local $sum i64)
          (loop $next
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
            (br_if $next (i32.lt_u
              (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 0x20000))))
          ;; h e l l o, 0xff, and what the start function wrote.
          (call $must (i64.eq (local.get $sum) (i64.const 788)))
          (call $must (i32.eq (i32.load (i32.const 40000)) (i32.const 0x6c6c6568)))
          (call $must (i32.eq (i32.load8_u (i32.const 50000)) (i32.const 255)))
          (call $must (i32.eq (memory.size) (i32.const 2)))
          (call $must (i32.eq (global.get $a) (i32.const 7)))
          (call $must (i64.eq (global.get $b) (i64.const -1)))
          (call $must (i32.eq (i32.reinterpret_f32 (global.get $c)) (i32.const 0x7fa00001)))
          (call $must (i64.eq (i64.reinterpret_f64 (global.get $d)) (i64.const 0x8000000000000000)))
          (call $must (ref.is_null (table.get (i32.const 0))))))"#;

    fn system() -> System {
        system_with(Config::default())
    }

    fn system_with(config: Config) -> System {
        let config = Config {
            schedulers: 1,
            cache: false,
            ..config
        };
        System::new(config).expect("the system starts")
    }

    fn load(system: &System, text: &str) -> Program {
        let loaded = system.load("victim", text.as_bytes());
        loaded.expect("the module loads")
    }

    #[track_caller]
    fn ends(system: &System, spawn: Spawn) -> ExitReason {
        let (_, watch) = system.spawn_watched(spawn).expect("it is spawned");
        watch.wait()
    }

    /// Runs the function in as many processes, one after the other, as it takes for their instances to be used again.
    #[track_caller]
    fn returns(system: &System, program: &Program, function: &str) {
        for _ in 0..RENEWED_AT_ONCE {
            let reason = ends(system, Spawn::new(program).function(function));
            assert_eq!(reason, ExitReason::Normal, "{function}");
        }
    }

    /// How many times as many had an instance that was used before.
    #[track_caller]
    fn recycled(system: &System) -> u64 {
        let recycled = system.counters().recycled;
        assert!(recycled.is_multiple_of(RENEWED_AT_ONCE as u64));
        recycled / RENEWED_AT_ONCE as u64
    }

    #[test]
    fn a_process_finds_nothing_of_the_one_before() {
        let system = system();
        let victim = load(&system, VICTIM);
        // The function, and how many batches have begun in a used instance so far.
        for (function, times) in [
            ("look", 0),
            ("scribble", 1),
            ("look", 2),
            ("run", 3),
            ("scribble", 4),
            ("scribble", 5),
            ("look", 6),
            // Its memory has grown: it is not used again.
            ("grow", 7),
            ("look", 7),
            ("can-grow", 8),
            ("look", 8),
        ] {
            returns(&system, &victim, function);
            assert_eq!(recycled(&system), times, "{function}");
        }
        assert_eq!(system.holdings().slots, 0);
    }

    #[test]
    fn surveyed_processes_leave_nothing_either() {
        let system = system();
        let victim = load(&system, VICTIM);
        // The pages that the first ones touch stay.
        for function in [
            "touch", "look", "scribble", "look", "touch", "look", "scribble", "touch", "look",
        ] {
            returns(&system, &victim, function);
        }
        assert_eq!(recycled(&system), 8);
    }

    #[test]
    fn a_process_that_crashes_or_exits_leaves_its_instance_too() {
        let system = system();
        let victim = load(&system, VICTIM);
        for (function, times) in [("trap", 0), ("overflow", 1), ("exit", 2), ("trap", 3)] {
            for _ in 0..RENEWED_AT_ONCE {
                let reason = ends(&system, Spawn::new(&victim).function(function));
                let is_exit = matches!(reason, ExitReason::Other(_));
                let is_trap = matches!(reason, ExitReason::Trap(_));
                assert!(
                    if function == "exit" { is_exit } else { is_trap },
                    "{reason}"
                );
            }
            assert_eq!(recycled(&system), times, "{function}");
        }
        returns(&system, &victim, "look");
        assert_eq!(recycled(&system), 4);
        assert_eq!(system.holdings().slots, 0);
    }

    /// Kills as many waiting processes as it takes for their instances to be used again; then looks.
    #[track_caller]
    fn killed_ones_leave_their_instances(config: Config) {
        let system = system_with(config);
        let victim = load(&system, VICTIM);
        for times in [0, 2] {
            for _ in 0..RENEWED_AT_ONCE {
                let waits = Spawn::new(&victim).function("wait");
                let (pid, watch) = system.spawn_watched(waits).expect("it is spawned");
                while system.info(pid).expect("it lives").status != Status::Waiting {
                    std::thread::yield_now();
                }
                system.kill(pid);
                assert_eq!(watch.wait(), ExitReason::Killed);
            }
            assert_eq!(recycled(&system), times);
            returns(&system, &victim, "look");
            assert_eq!(recycled(&system), times + 1);
        }
        assert_eq!(system.holdings().slots, 0);
    }

    #[test]
    fn a_process_killed_while_it_waits_leaves_its_instance() {
        killed_ones_leave_their_instances(Config {
            hibernate_after: None,
            ..Config::default()
        });
    }

    #[test]
    fn a_process_killed_while_it_is_packed_leaves_its_instance() {
        killed_ones_leave_their_instances(Config::default());
    }

    #[test]
    fn a_process_killed_before_its_pages_are_given_back_leaves_its_instance() {
        killed_ones_leave_their_instances(Config {
            poison: false,
            ..Config::default()
        });
    }

    #[test]
    fn a_process_killed_in_its_own_code_leaves_nothing() {
        let system = system();
        let victim = load(&system, VICTIM);
        for _ in 0..RENEWED_AT_ONCE {
            let spins = Spawn::new(&victim).function("spin");
            let (pid, watch) = system.spawn_watched(spins).expect("it is spawned");
            system.kill(pid);
            assert_eq!(watch.wait(), ExitReason::Killed);
        }
        returns(&system, &victim, "look");
        assert_eq!(system.counters().recycled, 0);
        assert_eq!(system.holdings().slots, 0);
    }

    #[test]
    fn each_process_has_its_own_limit() {
        let system = system();
        let victim = load(&system, VICTIM);
        let limited = |function: &str| {
            for _ in 0..RENEWED_AT_ONCE {
                let spawn = Spawn::new(&victim).function(function);
                let reason = ends(&system, spawn.limits(Limits::new().memory(128 << 10)));
                assert_eq!(reason, ExitReason::Normal, "{function}");
            }
        };
        for _ in 0..2 {
            limited("cannot-grow");
            returns(&system, &victim, "scribble");
            limited("look");
        }
        returns(&system, &victim, "can-grow");
        assert_eq!(recycled(&system), 6);
        let too_little = Spawn::new(&victim).limits(Limits::new().memory(64 << 10));
        assert!(system.spawn_watched(too_little).is_err());
    }

    #[test]
    fn a_program_that_changes_tables_begins_with_its_own() {
        let system = system();
        let text = VICTIM.replace(
            "(func (export \"run\"))",
            "(func (export \"run\") (table.set (i32.const 0) (ref.func $look)))",
        );
        let victim = load(&system, &text);
        for _ in 0..3 {
            returns(&system, &victim, "run");
            returns(&system, &victim, "look");
        }
        assert_eq!(system.counters().recycled, 0);
    }

    #[test]
    fn a_system_that_is_gone_has_no_instances() {
        let system = system();
        let victim = load(&system, VICTIM);
        returns(&system, &victim, "run");
        let slots = system.slots();
        drop((system, victim));
        assert!(slots.upgrade().is_none());
    }
}
