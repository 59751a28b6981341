//! Large payloads, copied once: from the sender's memory into the receiver's.
//!
//! This file knows ranges of a guest's memory, never what a message is. The sender of a large payload gives up its turn
//! within `send`, and its memory does not change until its next turn. A receiver that takes the message meanwhile
//! copies from there. If no receiver has taken it by then, the sender's next turn first copies the payload to the host,
//! as `send` does at once with a small one.
//!
//! ```text
//!   sender     send: lends, gives up its turn ─────────────► next turn: send ends the loan, returns
//!   receiver                  receive: allocates, copies from the sender's memory
//!        or                                                  … or from the copy that the sender made on the host
//! ```
//!
//! # Why a receiver never reads memory that has changed or is gone
//!
//! A loan ends with its [`Lender`], which lies in the sender's store ([`super::state::State`]) as soon as the loan is
//! made. Until the loan ends, no code of the guest runs: `send` answers "again", and the glue around it does nothing
//! but ask again ([`super::flatten`]). The glue is the host's own, and no guest can leave it out. The memory is not
//! packed meanwhile either, because the sender does not wait for mail. If the process is ended instead, its store drops
//! the data, and with it the lender, before it drops the memory. Every copy from the sender's memory is made under the
//! loan's lock, and the loan ends under it.

use crate::broken::{Rule, breaks};
use crate::process::{Loan, Payload};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

/// Payloads of this size and more are lent. For fewer bytes a copy costs less than the turn that the sender gives up.
pub(crate) const LENT_BYTES_MIN: u32 = 32 << 10;

/// The sender's end of a loan. Dropping it ends the loan.
pub(crate) struct Lender(Arc<Lent>);

struct Lent {
    length: usize,
    /// The address of the lent bytes. None when the loan has ended.
    lent_at: Mutex<Option<LentAt>>,
    /// The host's copy of the bytes, made when the loan ended or when a receiver read them in place.
    kept: OnceLock<Box<[u8]>>,
}

/// An address in a guest's memory.
struct LentAt(NonNull<u8>);

// SAFETY: it is only an address. One thread at a time reads the bytes there, under the loan's lock, and the sender does
// not write to them until the loan ends: see the top of the file.
unsafe impl Send for LentAt {}

impl Lender {
    /// Lends bytes.
    ///
    /// # Safety
    ///
    /// Until the lender ends the loan or is dropped, the bytes stay where they are and are not written to. The caller
    /// upholds this: the bytes belong to the memory of the guest whose store holds the lender, and the contract's
    /// function that lends them answers "again" until [`end`](Lender::end) has ended the loan.
    pub(crate) unsafe fn lend(lender: &mut Option<Lender>, bytes: &[u8]) -> Payload {
        let lent = Arc::new(Lent {
            length: bytes.len(),
            lent_at: Mutex::new(Some(LentAt(NonNull::from(bytes).cast()))),
            kept: OnceLock::new(),
        });
        *lender = Some(Lender(lent.clone()));
        Payload::lent(lent)
    }

    /// Ends the loan, and returns how many bytes the host has copied for that. Returns none if a receiver is copying at
    /// this moment: the caller must then try again.
    pub(crate) fn end(&self) -> Option<usize> {
        match self.0.lent_at.try_lock() {
            Ok(lent_at) => Some(self.end_locked(lent_at)),
            Err(TryLockError::Poisoned(poisoned)) => Some(self.end_locked(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn end_locked(&self, mut lent_at: MutexGuard<'_, Option<LentAt>>) -> usize {
        // If only the lender has the payload, no receiver can ask for it any more.
        let is_wanted = lent_at.is_some() && Arc::strong_count(&self.0) > 1;
        if is_wanted && breaks(Rule::LoanLate) {
            return 0;
        }
        if is_wanted {
            self.0.keep(&mut lent_at);
        }
        *lent_at = None;
        if is_wanted { self.0.length } else { 0 }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        let _ = self.end_locked(self.0.lock());
    }
}

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Option<LentAt>> {
        self.lent_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the bytes to the host, and ends the loan.
    fn keep(&self, lent_at: &mut Option<LentAt>) -> &[u8] {
        let taken = lent_at.take();
        self.kept.get_or_init(|| {
            let Some(LentAt(start)) = taken else {
                // The loan ended while only its lender had it, so no payload is left that could ask.
                return [].into();
            };
            // SAFETY: the loan had not ended, so the bytes are there and the sender does not write to them.
            unsafe { NonNull::slice_from_raw_parts(start, self.length).as_ref() }.into()
        })
    }
}

impl Loan for Lent {
    fn length(&self) -> usize {
        self.length
    }

    fn copy_to(&self, buffer: &mut [u8]) {
        if let Some(kept) = self.kept.get() {
            return buffer.copy_from_slice(kept);
        }
        let mut lent_at = self.lock();
        match &*lent_at {
            // SAFETY: the loan has not ended, so the bytes are there and the sender does not write to them. The caller
            // has borrowed the buffer for writing, so it is not in the sender's memory.
            Some(LentAt(start)) => buffer.copy_from_slice(unsafe {
                NonNull::slice_from_raw_parts(*start, self.length).as_ref()
            }),
            None => buffer.copy_from_slice(self.keep(&mut lent_at)),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self.kept.get() {
            Some(kept) => kept,
            None => self.keep(&mut self.lock()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_bytes() -> Vec<u8> {
        (0..LENT_BYTES_MIN).map(|byte| byte as u8).collect()
    }

    /// Each test ends the loan before it writes to the bytes.
    fn lent(bytes: &[u8]) -> (Lender, Payload) {
        let mut lender = None;
        // SAFETY: each test upholds this, see above.
        let payload = unsafe { Lender::lend(&mut lender, bytes) };
        (lender.expect("it has lent"), payload)
    }

    fn copied(payload: &Payload) -> Vec<u8> {
        let mut buffer = vec![0; payload.len()];
        payload.copy_to(&mut buffer);
        buffer
    }

    #[test]
    fn lent_bytes_can_be_read_before_and_after_the_loan_ends() {
        let mut bytes = some_bytes();
        let wanted = bytes.clone();
        let (lender, payload) = lent(&bytes);
        assert_eq!(payload.len(), wanted.len());
        assert!(copied(&payload) == wanted);
        assert_eq!(lender.end(), Some(wanted.len()));
        bytes.fill(0xff);
        assert!(copied(&payload) == wanted);
        assert!(*payload == wanted);
        drop(lender);
        assert!(payload.into_vec() == wanted);
    }

    #[test]
    fn reading_in_place_copies_the_bytes_to_the_host() {
        let mut bytes = some_bytes();
        let wanted = bytes.clone();
        let (lender, payload) = lent(&bytes);
        let other = payload.clone();
        assert!(*payload == wanted);
        bytes.fill(0xff);
        assert!(*other == wanted && copied(&other) == wanted);
        drop(lender);
        assert!(*other == wanted);
    }

    #[test]
    fn taking_the_bytes_copies_them_once() {
        let bytes = some_bytes();
        let (lender, payload) = lent(&bytes);
        assert!(payload.into_vec() == bytes);
        assert!(lender.0.kept.get().is_none());
    }

    #[test]
    fn a_payload_that_was_dropped_is_not_copied() {
        let bytes = some_bytes();
        let (lender, payload) = lent(&bytes);
        drop(payload);
        assert_eq!(lender.end(), Some(0));
        assert!(lender.0.kept.get().is_none());
    }

    #[test]
    fn a_lender_that_is_dropped_leaves_the_bytes() {
        let mut bytes = some_bytes();
        let wanted = bytes.clone();
        let (lender, payload) = lent(&bytes);
        drop(lender);
        bytes.fill(0xff);
        assert!(*payload == wanted);
    }

    #[test]
    fn ending_a_loan_does_not_wait_for_a_copy() {
        let bytes = some_bytes();
        let (lender, payload) = lent(&bytes);
        let copying = lender.0.lock();
        assert_eq!(lender.end(), None);
        drop(copying);
        assert_eq!(lender.end(), Some(bytes.len()));
        drop(payload);
    }
}
