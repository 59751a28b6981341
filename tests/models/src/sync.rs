//! The `crate::sync` of the host's files, with loom's types. Atomics are wrapped, so that a flaw can weaken them.

pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use std::sync::PoisonError;

/// Lets another thread go on: loom would try an endless number of looks otherwise.
pub(crate) struct Backoff;

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff
    }

    pub(crate) fn snooze(&self) {
        loom::thread::yield_now();
    }
}

pub(crate) mod atomic {
    //! As in the standard library.

    use crate::flaws::{Flaw, has};
    pub(crate) use loom::sync::atomic::Ordering;

    pub(crate) fn fence(order: Ordering) {
        if !has(Flaw::Fences) {
            loom::sync::atomic::fence(order);
        }
    }

    /// The ordering, or what a flaw leaves of it.
    fn left(order: Ordering) -> Ordering {
        let (acquires, releases) = (!has(Flaw::Acquire), !has(Flaw::Release));
        match order {
            Ordering::Acquire if !acquires => Ordering::Relaxed,
            Ordering::Release if !releases => Ordering::Relaxed,
            Ordering::AcqRel if !acquires => Ordering::Release,
            Ordering::AcqRel if !releases => Ordering::Acquire,
            order => order,
        }
    }

    macro_rules! atomic {
        ($name:ident, $number:ty) => {
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub(crate) fn new(value: $number) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }
            }
        };
        ($name:ident, $number:ty, exchanges) => {
            atomic!($name, $number);

            impl $name {
                pub(crate) fn compare_exchange(
                    &self,
                    current: $number,
                    new: $number,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$number, $number> {
                    self.0
                        .compare_exchange(current, new, left(success), left(failure))
                }

                pub(crate) fn store(&self, value: $number, order: Ordering) {
                    self.0.store(value, left(order));
                }
            }
        };
    }

    macro_rules! adds {
        ($name:ident, $number:ty) => {
            impl $name {
                pub(crate) fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                    if has(Flaw::Addition) {
                        let before = self.0.load(Ordering::Acquire);
                        self.0.store(before.wrapping_add(value), Ordering::Release);
                        return before;
                    }
                    self.0.fetch_add(value, left(order))
                }

                pub(crate) fn fetch_sub(&self, value: $number, order: Ordering) -> $number {
                    if has(Flaw::Addition) {
                        return self.fetch_add(value.wrapping_neg(), order);
                    }
                    self.0.fetch_sub(value, left(order))
                }
            }
        };
    }

    atomic!(AtomicU8, u8, exchanges);
    atomic!(AtomicU32, u32, exchanges);
    atomic!(AtomicUsize, usize);
    adds!(AtomicU32, u32);
    adds!(AtomicUsize, usize);

    impl Default for AtomicU32 {
        fn default() -> Self {
            Self::new(0)
        }
    }

    impl AtomicU32 {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.0.load(left(order))
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            current: u32,
            new: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.compare_exchange(current, new, success, failure)
        }
    }
}
