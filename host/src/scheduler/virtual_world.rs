//! A world for tests: the test moves its clock, and its random numbers come from a seed.
//!
//! Deadlines, sleeping and random numbers are repeatable in it. The order of threads is not: the operating system
//! still schedules them. A full replay needs an executor with one thread, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_utils::sync::{Parker, Unparker};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::World;

/// The time of day at which a virtual world begins: 2001-09-09, a billion seconds after 1970 began.
const WALL_START: Duration = Duration::from_secs(1_000_000_000);

/// A handle to a virtual world. Clones share one clock and one generator.
#[derive(Clone)]
pub(crate) struct VirtualWorld {
    state: Arc<State>,
}

struct State {
    now_ns: AtomicU64,
    generator: Mutex<ChaCha20Rng>,
    sleepers: Mutex<Vec<Unparker>>,
}

impl VirtualWorld {
    /// A world at time zero.
    pub(crate) fn new(seed: u64) -> Self {
        VirtualWorld {
            state: Arc::new(State {
                now_ns: AtomicU64::new(0),
                generator: Mutex::new(ChaCha20Rng::seed_from_u64(seed)),
                sleepers: Mutex::new(Vec::new()),
            }),
        }
    }

    /// Moves the clock on and wakes all sleeping threads, so that they look at it.
    pub(crate) fn advance(&self, step_ns: u64) {
        self.state.now_ns.fetch_add(step_ns, Ordering::SeqCst);
        for sleeper in self
            .state
            .sleepers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            sleeper.unpark();
        }
    }
}

impl World for VirtualWorld {
    fn now(&self) -> u64 {
        self.state.now_ns.load(Ordering::SeqCst)
    }

    fn wall(&self) -> Duration {
        WALL_START + Duration::from_nanos(self.now())
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.state
            .generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }

    fn adopt(&self, unparker: &Unparker) {
        self.state
            .sleepers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(unparker.clone());
    }

    fn sleep(&self, parker: &Parker, deadline_ns: u64) {
        // If the clock moves after this look, `advance` leaves a token in the parker.
        if self.now() < deadline_ns {
            parker.park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Seam;

    #[test]
    fn the_same_seed_draws_the_same_and_time_moves_by_hand() {
        let world = VirtualWorld::new(7);
        let (one, other) = (Seam::new(world.clone()), Seam::new(VirtualWorld::new(7)));
        assert_eq!(
            [(); 9].map(|()| one.random_u64()),
            [(); 9].map(|()| other.random_u64())
        );
        assert_ne!(
            one.random_u64(),
            Seam::new(VirtualWorld::new(8)).random_u64()
        );
        world.advance(5);
        assert_eq!((one.now(), other.now()), (5, 0));
        assert_eq!(one.wall() - other.wall(), Duration::from_nanos(5));
    }
}
