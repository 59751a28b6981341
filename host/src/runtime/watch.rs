//! Lets the host wait for a process's end.

use crate::process::{ExitReason, Pid};
use crate::system::Shared;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// A future for a process's exit reason. It is [`ExitReason::NoProc`] if there was no such process when the watch
/// began.
#[derive(Debug)]
pub struct Watch(oneshot::Receiver<ExitReason>);

impl Watch {
    pub(super) fn pair() -> (oneshot::Sender<ExitReason>, Watch) {
        let (sender, receiver) = oneshot::channel();
        (sender, Watch(receiver))
    }

    pub(super) fn new(shared: &Shared, pid: Pid) -> Watch {
        let (sender, watch) = Watch::pair();
        match shared.table.find(pid) {
            Some((_, _, mut control)) => {
                // Remove dropped watches, so that they don't pile up on a process that lives long.
                let watchers = &mut control.watchers.get_or_insert_default().0;
                watchers.retain(|watcher| !watcher.is_closed());
                watchers.push(sender);
            }
            None => {
                // The receiver exists, so this can't fail.
                let _ = sender.send(ExitReason::NoProc);
            }
        }
        watch
    }

    /// Blocks until the process has ended. Asynchronous code awaits the watch itself instead.
    pub fn wait(self) -> ExitReason {
        super::mailbox::block_on(self)
    }
}

impl Future for Watch {
    type Output = ExitReason;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ExitReason> {
        let received = std::task::ready!(Pin::new(&mut self.0).poll(context));
        // The sender is dropped without a reason only when the whole system is torn down.
        Poll::Ready(received.unwrap_or(ExitReason::Killed))
    }
}
