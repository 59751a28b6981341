//! Measuring time.

/// The time in nanoseconds, from a clock that never goes back. What it counts from is not said: only the difference of
/// two times means something, of two processes' too, on one node. OTP: `erlang:monotonic_time(nanosecond)`.
///
/// `std::time::Instant` does the same on `wasm32-wasip1`, and panics on `wasm32-unknown-unknown`.
pub fn now_ns() -> u64 {
    crate::wasi::monotonic_ns()
}
