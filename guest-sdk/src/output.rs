//! Printing whole lines, in one write each, so that lines of several processes don't mix; and the message of a process that
//! panics.

use std::fmt;

pub use crate::wasi::{STDERR, STDOUT};

/// Prints a line to standard output. Takes the same arguments as `std::println!`, but works on every target: std's own macro
/// prints nothing on `wasm32-unknown-unknown`.
///
/// If the line can't be written, it is silently lost.
#[macro_export]
macro_rules! println {
    ($($arguments:tt)*) => {
        $crate::internal::write($crate::internal::STDOUT, ::core::format_args!("{}\n", ::core::format_args!($($arguments)*)))
    };
}

/// Prints a line to standard error, as [`println!`](crate::println) does to standard output.
#[macro_export]
macro_rules! eprintln {
    ($($arguments:tt)*) => {
        $crate::internal::write($crate::internal::STDERR, ::core::format_args!("{}\n", ::core::format_args!($($arguments)*)))
    };
}

/// Formats the text first, then writes it at once.
pub fn write(to: crate::wasi::Descriptor, text: fmt::Arguments<'_>) {
    crate::wasi::write_all(to, text.to_string().as_bytes());
}

/// Makes panics print the process and the reason on standard error. Then the process traps, and the host reports that.
///
/// On `wasm32-unknown-unknown`, std's own message would be lost.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        crate::eprintln!("process {} {panic}", crate::self_pid());
    }));
}
