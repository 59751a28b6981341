//! The four functions of WASI preview 1 that the SDK itself calls, as safe functions.
//!
//! They are imported by hand because `wasm32-unknown-unknown` has no operating system below its `std`: there, std's own
//! `println!` is lost and its `Instant` panics. A program that calls none of them imports none of them. On a target that is not
//! wasm, std does the same work.

pub use imp::{arguments, monotonic_ns, write_all};

/// A file descriptor that every program has.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor(u32);

/// Standard output.
pub const STDOUT: Descriptor = Descriptor(1);
/// Standard error.
pub const STDERR: Descriptor = Descriptor(2);

#[cfg(target_family = "wasm")]
mod imp {
    use super::Descriptor;

    /// `ciovec` of the WASI contract.
    #[repr(C)]
    struct Buffer {
        start: *const u8,
        length: usize,
    }

    /// `clockid::monotonic`.
    const CLOCK_MONOTONIC: u32 = 1;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn fd_write(
            descriptor: u32,
            buffers: *const Buffer,
            buffers_count: usize,
            written: *mut usize,
        ) -> u32;
        fn clock_time_get(clock: u32, precision_ns: u64, time_ns: *mut u64) -> u32;
        fn args_sizes_get(count: *mut usize, size: *mut usize) -> u32;
        fn args_get(starts: *mut *mut u8, bytes: *mut u8) -> u32;
    }

    /// Writes all of the bytes. If the output accepts no more, the rest is lost, because that is no reason for a process to end.
    pub fn write_all(to: Descriptor, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let buffer = Buffer {
                start: bytes.as_ptr(),
                length: bytes.len(),
            };
            let mut written = 0;
            // SAFETY: `buffer` describes `bytes`, which live until after the call, and the host may set `written`.
            let error = unsafe { fd_write(to.0, &raw const buffer, 1, &raw mut written) };
            if error != 0 || written == 0 {
                return;
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
    }

    /// Nanoseconds since some moment in the past; 0 without a clock.
    pub fn monotonic_ns() -> u64 {
        let mut time_ns = 0;
        // SAFETY: the host may set `time_ns`.
        unsafe { clock_time_get(CLOCK_MONOTONIC, 1, &raw mut time_ns) };
        time_ns
    }

    /// The command line, beginning with the program's name.
    pub fn arguments() -> Vec<String> {
        let (mut count, mut size) = (0, 0);
        // SAFETY: the host may set both.
        if unsafe { args_sizes_get(&raw mut count, &raw mut size) } != 0 {
            return Vec::new();
        }
        let mut starts = vec![std::ptr::null_mut(); count];
        let mut bytes = vec![0; size];
        // SAFETY: the two vectors have the sizes that the host has just returned.
        if unsafe { args_get(starts.as_mut_ptr(), bytes.as_mut_ptr()) } != 0 {
            return Vec::new();
        }
        // The strings lie one after the other, each with a NUL at its end, so `starts` is not needed.
        let strings = bytes.split(|&byte| byte == 0).take(count);
        strings
            .map(|string| String::from_utf8_lossy(string).into_owned())
            .collect()
    }
}

#[cfg(not(target_family = "wasm"))]
mod imp {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::time::Instant;

    use super::Descriptor;

    pub fn write_all(to: Descriptor, bytes: &[u8]) {
        // Text that can't be written is lost, as on wasm.
        let _ = match to.0 {
            1 => std::io::stdout().write_all(bytes),
            _ => std::io::stderr().write_all(bytes),
        };
    }

    pub fn monotonic_ns() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn arguments() -> Vec<String> {
        std::env::args().collect()
    }
}
