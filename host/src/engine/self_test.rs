//! The self-test of packing: checks its assumptions on wasmtime's private layouts, with one process of a built-in
//! module.
//!
//! A waiting process can be packed whole only if two things hold. wasmtime must keep the stack pointer of a suspended
//! stack where [`packing`](super::packing) reads it, and everything that wasmtime allocates for a store and for a call
//! that waits must lie in the slot, where [`arena`](super::arena) puts it. No public interface of wasmtime promises
//! that. So before the first process of a system is packed, the test makes a process that belongs to no system. That
//! process waits, is packed, loses its pages, is unpacked, and goes on. If an assumption fails, no process is packed:
//! processes wait in their slots as before.

use super::arena::CallPlace;
use super::packing::{Packed, Templates, UnpackScope};
use super::slots::{Home, Slots, Warm, Written, at_home};
use crate::system::turn_context::{self, Pausing};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use wasmtime::{Caller, Engine, InstancePre, Linker, Module, Store, TypedFunc};

/// Keeps something in a local, a global, a table and two pages of memory, waits, and computes with all of it.
const MODULE: &str = r#"(module
    (import "" "wait" (func $wait (param i64)))
    (import "" "pause" (func $pause))
    (memory (export "memory") 1 1)
    (global $kept (mut i64) (i64.const 1))
    (table 2 2 funcref)
    (elem (i32.const 1) $load)
    (type $loads (func (result i64)))
    (func $load (type $loads) (i64.add (i64.load (i32.const 8)) (i64.load (i32.const 65528))))
    (func (export "run") (param $seed i64) (result i64) (local $own i64)
      (local.set $own (i64.mul (local.get $seed) (i64.const 3)))
      (global.set $kept (i64.mul (local.get $seed) (i64.const 5)))
      (i64.store (i32.const 8) (i64.mul (local.get $seed) (i64.const 7)))
      (i64.store (i32.const 65528) (i64.mul (local.get $seed) (i64.const 11)))
      (call $wait (local.get $own))
      (call $pause)
      (i64.add (i64.add (local.get $own) (global.get $kept)) (call_indirect (type $loads) (i32.const 1)))))"#;
const SEED: i64 = 0x0123_4567_89ab;
const RESULT: i64 = SEED * (3 + 5 + 7 + 11);
const MEMORY_BYTES: usize = 64 << 10;

/// The self-test and its result.
pub(super) struct SelfTest {
    engine: Engine,
    slots: Arc<Slots>,
    outcome: OnceLock<Result<(), String>>,
}

impl SelfTest {
    pub(super) fn new(engine: Engine, slots: Arc<Slots>) -> SelfTest {
        SelfTest {
            engine,
            slots,
            outcome: OnceLock::new(),
        }
    }

    /// Whether processes can be packed. The first call runs the test, which takes some milliseconds, and logs a
    /// failure. As long as there are no slots for the test, the answer is no, and the next call tries again: guests that
    /// use up the slots do not turn hibernation off.
    #[inline]
    pub(super) fn passes(&self) -> bool {
        match self.outcome.get() {
            Some(outcome) => outcome.is_ok(),
            None => self.first_passes(),
        }
    }

    #[cold]
    fn first_passes(&self) -> bool {
        let Some((first, second)) = self.home().zip(self.home()) else {
            return false;
        };
        let outcome = self.run(&first, &second);
        let is_passed = outcome.is_ok();
        if let Err(error) = &outcome {
            tracing::warn!(
                "processes that sleep keep their memory, because the self-test of packing failed: {error}"
            );
        }
        // Another thread may have run the test meanwhile, with the same outcome.
        let _ = self.outcome.set(outcome);
        is_passed
    }

    /// Whether the test has run and failed.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.outcome.get(), Some(Err(_)))
    }

    /// A home for a process of the built-in module, if a slot is free.
    fn home(&self) -> Option<Arc<Home>> {
        let class = Slots::home_class(MEMORY_BYTES, Some(MEMORY_BYTES));
        let home = self.slots.home(class, Warm::NONE, &Written::default());
        home.ok()
    }

    /// Runs the test with two processes in these homes.
    fn run(&self, first: &Arc<Home>, second: &Arc<Home>) -> Result<(), String> {
        let words = |error: wasmtime::Error| format!("{error:#}");
        let binary = wat::parse_str(MODULE).map_err(|error| error.to_string())?;
        let module = Module::new(&self.engine, binary).map_err(words)?;
        let instance = linker(&self.engine)
            .and_then(|linker| linker.instantiate_pre(&module))
            .map_err(words)?;
        // The first process makes the objects that instances share, which must not lie in an arena.
        drop(at_home(first, || make(&instance, None)).map_err(words)?);
        sleep_and_wake(second, &instance)
    }
}

/// Makes a process in this home wait, packs and unpacks it, and lets it go on.
fn sleep_and_wake(home: &Arc<Home>, instance: &InstancePre<Observed>) -> Result<(), String> {
    // SAFETY: the home is new, and the process, which owns everything that is made in it, is dropped before it.
    let made =
        unsafe { home.make_instance(|| at_home(home, || make(instance, CallPlace::reserve()))) };
    let (mut store, run) = made.map_err(|error| format!("{error:#}"))?;
    let mut process = Box::pin(async move {
        let result = run.call_async(&mut store, SEED).await;
        (result, store)
    });
    let mut poll = || {
        let mut context = Context::from_waker(Waker::noop());
        at_home(home, || process.as_mut().poll(&mut context))
    };
    if poll().is_ready() {
        return Err("a process that should wait has ended".to_owned());
    }
    let templates = Templates::default();
    for _ in 0..2 {
        // SAFETY: the process waits, and is polled only after it has been put back. The second time it is compared with
        // itself.
        unsafe {
            let packed = Packed::pack_now(home, &templates);
            let packed = packed.ok_or("a waiting stack does not say where it ends")?;
            let is_all = packed.is_all();
            packed.put_back(home, UnpackScope::All);
            if !is_all {
                return Err("a memory can't be packed".to_owned());
            }
        }
    }
    let Poll::Ready((result, store)) = poll() else {
        return Err("a process that should end waits".to_owned());
    };
    let observed = store.data();
    match result {
        _ if !observed.fits => Err("wasmtime allocates more for a call that waits".to_owned()),
        Ok(RESULT) => Ok(()),
        Ok(other) => Err(format!("a process that was packed computes {other}")),
        Err(error) => Err(format!("a process that was packed traps: {error:#}")),
    }
}

/// The observations of the built-in module's host functions.
struct Observed {
    call_place: Option<CallPlace>,
    /// wasmtime's allocation for the call of `pause` lies in the slot.
    fits: bool,
}

fn make(
    instance: &InstancePre<Observed>,
    call_place: Option<CallPlace>,
) -> wasmtime::Result<(Store<Observed>, TypedFunc<i64, i64>)> {
    let observed = Observed {
        call_place,
        fits: true,
    };
    let mut store = Store::new(instance.module().engine(), observed);
    let instance = super::ready(instance.instantiate_async(&mut store))?;
    let run = instance.get_typed_func(&mut store, "run")?;
    Ok((store, run))
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Observed>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap("", "wait", |guest: Caller<'_, Observed>, _own: i64| {
        if let Some(place) = &guest.data().call_place {
            // SAFETY: the module calls `pause` next, and this is the first time that the place is used.
            unsafe { place.open() };
        }
    })?;
    linker.func_wrap_async("", "pause", |mut guest: Caller<'_, Observed>, (): ()| {
        let observed = guest.data_mut();
        if let Some(place) = &observed.call_place {
            observed.fits = place.close();
        }
        turn_context::replace_pausing(Pausing::EndsTurn);
        Box::new(Pause)
    })?;
    Ok(linker)
}

/// Like the contract's, which takes no allocation either.
struct Pause;

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        match turn_context::replace_pausing(Pausing::Over) {
            Pausing::Over => Poll::Ready(()),
            Pausing::EndsTurn | Pausing::EndsProcess => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::engine::config::{self, Counts};
    use crate::scheduler::{Seam, VirtualWorld};

    fn slots(config: &Config) -> Arc<Slots> {
        let seam = Arc::new(Seam::new(VirtualWorld::new(1)));
        let slots = Slots::new(config::stack_bytes(config), config.poison, seam);
        slots.expect("there is address space")
    }

    #[test]
    fn packing_passes_its_test() {
        for poison in [false, true] {
            let config = Config {
                poison,
                ..Config::default()
            };
            let slots = slots(&config);
            let engine = config::engine(&config, &slots, Counts::Module);
            let test = SelfTest::new(engine.expect("wasmtime starts"), slots.clone());
            assert!(test.passes() && !test.has_failed());
            assert_eq!(slots.in_use(), 0);
        }
    }

    /// wasmtime has stacks of its own here, about which packing knows nothing.
    #[test]
    fn packing_is_off_where_stacks_are_not_as_assumed() {
        let config = Config::default();
        let slots = slots(&config);
        let engine = Engine::new(&config::compiler(Counts::Module).expect("it is valid"));
        let test = SelfTest::new(engine.expect("wasmtime starts"), slots.clone());
        assert!(!test.has_failed());
        assert!(!test.passes() && test.has_failed());
        let outcome = test.outcome.get().expect("it has run");
        let error = outcome.as_ref().expect_err("it has failed");
        assert!(error.contains("does not say where it ends"), "{error}");
        assert_eq!(slots.in_use(), 0);
    }
}
