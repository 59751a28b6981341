//! The memory of all processes together: its limit, and the share of each process.
//!
//! Small processes are not counted: a million of them have far more address space than they ever touch. The bytes
//! that a process holds beyond [`SMALL_BYTES`] are counted in full, touched or not. So no number of growing processes
//! can make the kernel kill the program for lack of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that every process may hold without being counted: the size of the largest home slot.
const SMALL_BYTES: u64 = 1 << 20;

/// The memory that all processes share.
pub(crate) struct Pool {
    bytes_max: u64,
    used: AtomicU64,
}

impl Pool {
    pub(super) fn new(bytes_max: u64) -> Arc<Pool> {
        Arc::new(Pool {
            bytes_max,
            used: AtomicU64::new(0),
        })
    }
}

/// The bytes of the pool that one process holds. Dropping the share gives them back.
pub(crate) struct Share {
    pool: Arc<Pool>,
    bytes: u64,
}

impl Share {
    pub(crate) fn of(pool: &Arc<Pool>) -> Share {
        Share {
            pool: pool.clone(),
            bytes: 0,
        }
    }

    /// Sets how many bytes the process holds in all. Returns false and changes nothing if the pool has too few left.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        let wanted = bytes.saturating_sub(SMALL_BYTES);
        if wanted > self.bytes {
            let more = wanted - self.bytes;
            let take = |used: u64| {
                let sum = used.checked_add(more)?;
                (sum <= self.pool.bytes_max).then_some(sum)
            };
            let used = &self.pool.used;
            if used
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
                .is_err()
            {
                return false;
            }
        } else if wanted < self.bytes {
            let less = self.bytes - wanted;
            self.pool.used.fetch_sub(less, Ordering::AcqRel);
        }
        self.bytes = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// The total and the available memory of the machine, and of the control group that this program is in.
fn limits() -> impl Iterator<Item = (u64, u64)> {
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = machine.lines().find_map(|line| line.strip_prefix(name))?;
        let kib = line.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        Some(kib << 10)
    };
    let of_machine = field("MemTotal:").zip(field("MemAvailable:"));
    let of_group = ["memory.max", "memory.current"].map(|file| {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    // The kernel drops cached file pages when a program needs the memory.
    let stat = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    let files = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "));
    let files = files.and_then(|number| number.parse::<u64>().ok());
    let of_group = of_group[0].zip(of_group[1]).map(|(total, used)| {
        let needed = used.saturating_sub(files.unwrap_or(0));
        (total, total.saturating_sub(needed))
    });
    of_machine.into_iter().chain(of_group)
}

/// Memory is short when less than this fraction (one in so many parts) is available.
const SHORT_PARTS: u64 = 8;

/// Has the machine or this program's control group little memory left?
pub(crate) fn is_short() -> bool {
    limits().any(|(total, available)| available < total / SHORT_PARTS)
}

/// Three quarters of the memory of the machine or of the control group, whichever is smaller.
pub(super) fn three_quarters() -> u64 {
    limits()
        .map(|(total, _)| total / 4 * 3)
        .min()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_a_small_process_is_counted_and_given_back() {
        let pool = Pool::new(10 << 20);
        let (mut one, mut two) = (Share::of(&pool), Share::of(&pool));
        assert!(one.hold(SMALL_BYTES) && two.hold(SMALL_BYTES));
        assert_eq!(pool.used.load(Ordering::Relaxed), 0);
        assert!(one.hold(SMALL_BYTES + (8 << 20)));
        assert!(!two.hold(SMALL_BYTES + (3 << 20)));
        assert!(two.hold(SMALL_BYTES + (2 << 20)));
        assert!(!one.hold(u64::MAX));
        drop(one);
        assert!(two.hold(SMALL_BYTES + (10 << 20)) && two.hold(0));
        drop(two);
        assert_eq!(pool.used.load(Ordering::Relaxed), 0);
    }
}
