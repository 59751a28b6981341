//! The guard in front of every function: the one way from a function of the contract to its process.
//!
//! A process that was told to end calls nothing more. A process for which the host has worked a whole slice gives up its turn first.
//! A function gets a [`Guarded`], which shows the process only after it has asked for both.

use crate::engine::state::{State, survives};
use crate::system::current::Current;
use std::future::poll_fn;
use std::task::Poll;
use wasmtime::Result;
use wasmtime::component::HasData;

/// Tells wasmtime's bindings that functions are called on a [`Guarded`].
pub(super) struct Calls;

impl HasData for Calls {
    type Data<'a> = Guarded<'a>;
}

/// The process that calls a function.
pub(super) struct Guarded<'a>(&'a mut State);

/// Puts the guard in front of a process.
pub(super) fn guarded(state: &mut State) -> Guarded<'_> {
    Guarded(state)
}

impl Guarded<'_> {
    /// Begins a call that answers at once, whatever the process owes.
    pub(super) fn begin_at_once(&mut self) -> Result<&mut Current> {
        survives(&self.0.current)?;
        Ok(&mut self.0.current)
    }

    /// Begins a call, or goes on with it.
    pub(super) async fn begin(&mut self) -> Result<&mut Current> {
        survives(&self.0.current)?;
        if self.0.current.owes_pause() {
            self.0.current.pauses();
            give_up_turn().await;
            survives(&self.0.current)?;
        }
        Ok(&mut self.0.current)
    }

    /// Begins a call with `handed_bytes` of arguments beside a payload. wasmtime has copied them already, so the process pays for
    /// them.
    pub(super) async fn begin_with(&mut self, handed_bytes: usize) -> Result<&mut Current> {
        self.0.current.charge_handed(handed_bytes);
        self.begin().await
    }

    /// Attempts something until it is ready. The process gives up its turn after each attempt that isn't.
    pub(super) async fn retry<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Current) -> Poll<T>,
    ) -> Result<T> {
        loop {
            let current = self.begin().await?;
            let attempted = attempt(current);
            survives(current)?;
            match attempted {
                Poll::Ready(value) => return Ok(value),
                Poll::Pending => give_up_turn().await,
            }
        }
    }
}

/// Gives up the turn. The process is ready to go on at once.
pub(super) async fn give_up_turn() {
    let mut given_up = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given_up, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
