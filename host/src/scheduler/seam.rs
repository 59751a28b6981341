//! The seam: the one place where time, randomness and sleeping come from.
//!
//! All code of the host that needs the time, a random number or a sleep asks a [`Seam`]. A seam stands on a
//! [`World`]: the real one here, or one whose clock is moved by hand and whose random numbers come from a seed (the
//! scheduler's tests use such a world). The third source of chance is the choice of the next task, which is one
//! function, `pick` of the scheduler's worker. So a single-threaded executor with a seed can replace all three and
//! replay a system.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync::{Parker, Unparker};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::wheel::NEVER;

/// The number of generators in the real world. Each thread gets one in turn, so up to this many threads draw without
/// waiting for each other. More threads share generators, which only costs time.
const GENERATOR_COUNT: usize = 16;

/// The surroundings of a system: its clocks, its random numbers, its sleep.
pub trait World: Send + Sync + 'static {
    /// Nanoseconds since the world began; never goes back.
    fn now(&self) -> u64;

    /// The time of day, as the time since 1970 began. May jump.
    fn wall(&self) -> Duration;

    /// Fills the bytes with random numbers that a guest can't predict. With a seed they are the same in each run.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Registers a thread that sleeps in this world. A world that moves its own clock must wake the thread when it
    /// does.
    fn adopt(&self, unparker: &Unparker);

    /// Sleeps until the parker's unparker is used (before or during the sleep), or until `deadline_ns`. May return
    /// early. `u64::MAX` means no deadline.
    fn sleep(&self, parker: &Parker, deadline_ns: u64);
}

/// Time and randomness for a whole system; see the top of the file.
pub struct Seam {
    world: Box<dyn World>,
}

impl Seam {
    /// The real clocks of this machine, and generators that the operating system seeds.
    ///
    /// # Panics
    /// If the operating system can't provide random numbers.
    pub fn real() -> Self {
        Seam::new(RealWorld::new())
    }

    /// A seam on the given world.
    pub fn new(world: impl World) -> Self {
        Seam {
            world: Box::new(world),
        }
    }

    /// Monotonic nanoseconds since the seam was made.
    pub fn now(&self) -> u64 {
        self.world.now()
    }

    /// The time of day, as the time since 1970 began.
    pub fn wall(&self) -> Duration {
        self.world.wall()
    }

    /// Fills the bytes with random numbers fit for keys.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        self.world.fill_random(bytes);
    }

    /// A random number fit for keys.
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.world.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// See [`World::adopt`].
    pub(super) fn adopt(&self, unparker: &Unparker) {
        self.world.adopt(unparker);
    }

    /// See [`World::sleep`].
    pub(super) fn sleep(&self, parker: &Parker, deadline_ns: u64) {
        self.world.sleep(parker, deadline_ns);
    }
}

impl fmt::Debug for Seam {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seam").finish_non_exhaustive()
    }
}

/// This machine.
struct RealWorld {
    start: Instant,
    generators: [CachePadded<Mutex<ChaCha20Rng>>; GENERATOR_COUNT],
}

impl RealWorld {
    fn new() -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the operating system has randomness to give");
        let mut seeder = ChaCha20Rng::from_seed(seed);
        RealWorld {
            start: Instant::now(),
            generators: std::array::from_fn(|_| {
                CachePadded::new(Mutex::new(ChaCha20Rng::from_rng(&mut seeder)))
            }),
        }
    }
}

impl World for RealWorld {
    fn now(&self) -> u64 {
        let elapsed = self.start.elapsed();
        // Wraps after 584 years of running.
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }

    fn wall(&self) -> Duration {
        // A clock before 1970 was never set.
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut generator = self.generators[own_generator()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        generator.fill_bytes(bytes);
    }

    fn adopt(&self, _unparker: &Unparker) {
        // The operating system moves the real clock, and `park_timeout` follows it.
    }

    fn sleep(&self, parker: &Parker, deadline_ns: u64) {
        if deadline_ns == NEVER {
            parker.park();
        } else {
            parker.park_timeout(Duration::from_nanos(deadline_ns.saturating_sub(self.now())));
        }
    }
}

/// The index of the generator that this thread draws from.
fn own_generator() -> usize {
    static THREAD_COUNT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let index = THREAD_COUNT.fetch_add(1, Ordering::Relaxed) % GENERATOR_COUNT;
            own.set(Some(index));
            index
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_clock_does_not_go_back() {
        let seam = Seam::real();
        let mut last_ns = 0;
        for _look in 0..10_000 {
            let now_ns = seam.now();
            assert!(now_ns >= last_ns);
            last_ns = now_ns;
        }
        assert!(last_ns > 0);
        let years = seam.wall().as_secs() / (365 * 24 * 3600);
        assert!((50..1000).contains(&years));
    }

    #[test]
    fn threads_and_seams_draw_different_numbers() {
        let seam = Seam::real();
        let mut drawn = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2 * GENERATOR_COUNT)
                .map(|_| scope.spawn(|| (0..100).map(|_| seam.random_u64()).collect::<Vec<_>>()))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no panic"))
                .collect::<Vec<_>>()
        });
        drawn.extend((0..100).map(|_| Seam::real().random_u64()));
        let drawn_count = drawn.len();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), drawn_count);
    }

    #[test]
    fn random_bytes_fill_any_length() {
        let seam = Seam::real();
        let mut bytes = [0; 1000];
        seam.fill_random(&mut bytes);
        assert!(
            bytes
                .chunks(100)
                .all(|chunk| chunk.iter().any(|&byte| byte != 0))
        );
        seam.fill_random(&mut []);
    }

    #[test]
    fn sleep_ends_at_the_deadline_or_when_woken() {
        let seam = Seam::real();
        let parker = Parker::new();
        let deadline_ns = seam.now() + 2_000_000;
        while seam.now() < deadline_ns {
            seam.sleep(&parker, deadline_ns);
        }
        seam.sleep(&parker, 0);
        parker.unparker().unpark();
        seam.sleep(&parker, NEVER);
    }
}
