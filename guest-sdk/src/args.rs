//! The arguments on the command line.

use std::error::Error;
use std::fmt::{self, Display};
use std::str::FromStr;

/// The arguments of the command line, without the program's name. Every process of a system sees the same arguments. OTP:
/// `init:get_plain_arguments/0`.
///
/// `std::env::args` does the same on `wasm32-wasip1`, but returns nothing on `wasm32-unknown-unknown`.
pub fn args() -> Vec<String> {
    let mut arguments = crate::wasi::arguments();
    // Without WASI's arguments there is no program name either.
    arguments.drain(..arguments.len().min(1));
    arguments
}

/// The argument at `index`, counted from 0, parsed as a `T`. Returns `default` if there are fewer arguments. The error says which
/// argument is wrong, and why.
pub fn arg_or<T>(index: usize, default: T) -> Result<T, ArgumentError>
where
    T: FromStr,
    T::Err: Display,
{
    match args().get(index) {
        Some(text) => text
            .parse()
            .map_err(|error| ArgumentError(format!("argument {}, `{text}`: {error}", index + 1))),
        None => Ok(default),
    }
}

/// Says which argument is wrong, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct ArgumentError(String);

impl Display for ArgumentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

debug_as_display!(ArgumentError);

impl Error for ArgumentError {}
