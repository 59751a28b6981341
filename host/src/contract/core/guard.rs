//! The guard in front of every function, so that none can lack it.
//!
//! A process that was told to end calls nothing more. A process for which the host has worked a whole slice gives up its turn
//! first, and asks again. Only a function that may answer "again" can make it do so: its [`Shape`](crate::abi::Shape) says whether it is one.

use super::pausing::{AGAIN, AGAIN_LISTS};
use super::{Answer, Guest, without_payload};
use crate::engine::state::{State, survives};
use wasmtime::{Linker, Result, WasmRet, WasmTy};

/// The answers of functions that a process may have to ask again.
pub(super) trait Again: WasmRet + 'static {
    const AGAIN: Self;
}

impl Again for i32 {
    const AGAIN: i32 = AGAIN;
}

impl Again for i64 {
    const AGAIN: i64 = AGAIN_LISTS;
}

impl Again for Answer {
    const AGAIN: Answer = without_payload(AGAIN_LISTS);
}

/// A function of the contract, with these parameters.
pub(super) trait Function<Params> {
    /// Defines it. It does all it does in one call.
    fn define_direct(self, linker: &mut Linker<State>, module: &str, name: &str) -> Result<()>;
}

/// The same for one that may answer "again".
pub(super) trait RetriedFunction<Params> {
    /// Defines it. The guard answers in its place if the process owes a pause.
    fn define_retried(self, linker: &mut Linker<State>, module: &str, name: &str) -> Result<()>;
}

macro_rules! with_parameters {
    ($($parameter:ident)*) => {
        #[allow(non_snake_case, reason = "parameters have the names of their types")]
        impl<F, R, $($parameter),*> Function<($($parameter,)*)> for F
        where
            F: Fn(Guest<'_>, $($parameter),*) -> Result<R> + Send + Sync + 'static,
            R: 'static,
            Result<R>: WasmRet,
            $($parameter: WasmTy + 'static),*
        {
            fn define_direct(self, linker: &mut Linker<State>, module: &str, name: &str) -> Result<()> {
                linker.func_wrap(module, name, move |guest: Guest<'_>, $($parameter: $parameter),*| {
                    survives(&guest.data().current)?;
                    self(guest, $($parameter),*)
                })?;
                Ok(())
            }
        }

        #[allow(non_snake_case, reason = "parameters have the names of their types")]
        impl<F, R, $($parameter),*> RetriedFunction<($($parameter,)*)> for F
        where
            F: Fn(Guest<'_>, $($parameter),*) -> Result<R> + Send + Sync + 'static,
            R: Again,
            Result<R>: WasmRet,
            $($parameter: WasmTy + 'static),*
        {
            fn define_retried(self, linker: &mut Linker<State>, module: &str, name: &str) -> Result<()> {
                linker.func_wrap(module, name, move |guest: Guest<'_>, $($parameter: $parameter),*| {
                    let current = &*guest.data().current;
                    survives(current)?;
                    if current.owes_pause() {
                        return Ok(R::AGAIN);
                    }
                    self(guest, $($parameter),*)
                })?;
                Ok(())
            }
        }
    };
}

with_parameters!();
with_parameters!(A);
with_parameters!(A B);
with_parameters!(A B C);
with_parameters!(A B C D);
with_parameters!(A B C D E);
with_parameters!(A B C D E G);
with_parameters!(A B C D E G H);
with_parameters!(A B C D E G H I);
with_parameters!(A B C D E G H I J);
with_parameters!(A B C D E G H I J K);
with_parameters!(A B C D E G H I J K L);
with_parameters!(A B C D E G H I J K L M);
