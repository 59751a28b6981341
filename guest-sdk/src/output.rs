//! Printing: whole lines, in one write each, so that those of several processes don't mix; and the last words of a
//! process that panics.

use std::fmt;

pub use crate::wasi::{STDERR, STDOUT};

/// Prints a line to standard output. Takes what `std::println!` takes, and works on every target; a process that
/// prints with std's own macro prints nothing on `wasm32-unknown-unknown`.
///
/// A line that can't be written is lost without a word.
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

/// Formats first and writes then, all at once.
pub fn write(to: crate::wasi::Descriptor, text: fmt::Arguments<'_>) {
    crate::wasi::write_all(to, text.to_string().as_bytes());
}

/// Has panics say on standard error which process they ended and why. Only then comes the trap that the host reports.
///
/// On `wasm32-unknown-unknown` std's own message would go nowhere.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        crate::eprintln!("process {} {panic}", crate::self_pid());
    }));
}
