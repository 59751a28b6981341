//! Measuring time.

use std::time::Duration;

/// The time in nanoseconds, from a clock that never goes back. Its zero is unspecified: only differences between times have a
/// meaning, also between processes on one node. OTP: `erlang:monotonic_time(nanosecond)`.
///
/// `std::time::Instant` does the same on `wasm32-wasip1`, and panics on `wasm32-unknown-unknown`.
pub fn now_ns() -> u64 {
    crate::wasi::monotonic_ns()
}

/// Converts a duration to the contract's nanoseconds. A longer duration than they can hold becomes 584 years.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_durations_saturate() {
        assert_eq!(nanoseconds(Duration::from_millis(1)), 1_000_000);
        assert_eq!(nanoseconds(Duration::MAX), u64::MAX);
    }
}
