//! A message's bytes: stored in the message itself, in an allocation of their own, or lent.

use crate::broken::hoard;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Payloads up to this size are stored in the message itself. This size makes a `Payload` take 32 bytes.
const INLINE_BYTES_MAX: usize = 24;

/// A message's bytes. The host does not interpret them.
#[derive(Clone)]
pub struct Payload(Bytes);

#[derive(Clone)]
enum Bytes {
    Inline { length: u32, bytes: Words },
    Own(Box<[u8]>),
    Lent(Arc<dyn Loan>),
}

/// Space for a short payload, filled up with zeros. It is written and moved in whole words, because the processor
/// stalls when it reads bytes in another width than they were just written in.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Words([[u8; 8]; INLINE_BYTES_MAX / 8]);

impl Words {
    #[inline]
    fn new(bytes: &[u8]) -> Words {
        let word = |index: usize| {
            let rest = bytes.get(8 * index..).unwrap_or_default();
            match rest.first_chunk::<8>() {
                Some(whole) => u64::from_le_bytes(*whole),
                None => {
                    let bytes = rest.iter().rev();
                    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
                }
            }
        };
        Words([word(0), word(1), word(2)].map(u64::to_le_bytes))
    }
}

/// Bytes that are still in the sender's memory. The receiver copies them from there, or from the copy that the host
/// made when the sender ran on.
pub(crate) trait Loan: Send + Sync {
    /// The number of bytes.
    fn length(&self) -> usize;

    /// Copies all bytes to `room`, which has the same length.
    fn copy_to(&self, room: &mut [u8]);

    /// All bytes. Copies them to the host first.
    fn bytes(&self) -> &[u8];
}

impl Payload {
    /// No bytes.
    pub const fn new() -> Payload {
        Payload(Bytes::Inline {
            length: 0,
            bytes: Words([[0; 8]; INLINE_BYTES_MAX / 8]),
        })
    }

    /// Stores the bytes in the message itself: at most [`INLINE_BYTES_MAX`].
    #[inline(always)]
    pub(crate) fn inline(bytes: &[u8]) -> Payload {
        assert!(bytes.len() <= INLINE_BYTES_MAX);
        Payload(Bytes::Inline {
            length: bytes.len() as u32,
            bytes: Words::new(bytes),
        })
    }

    /// Makes a payload that is copied only when the receiver asks for it.
    pub(crate) fn lent(loan: Arc<dyn Loan>) -> Payload {
        Payload(Bytes::Lent(loan))
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Inline { length, .. } => *length as usize,
            Bytes::Own(bytes) => bytes.len(),
            Bytes::Lent(loan) => loan.length(),
        }
    }

    /// The number of bytes that were copied to make the payload.
    #[inline]
    pub(crate) fn copied_bytes(&self) -> usize {
        match &self.0 {
            Bytes::Lent(_) => 0,
            _ => self.len(),
        }
    }

    /// The bytes in two words, the first byte lowest, if there are at most 16.
    #[inline]
    pub(crate) fn short(&self) -> Option<[u64; 2]> {
        match &self.0 {
            Bytes::Inline {
                length: ..=16,
                bytes,
            } => Some([bytes.0[0], bytes.0[1]].map(u64::from_le_bytes)),
            _ => None,
        }
    }

    /// Is the payload empty?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies all bytes to `room`. For a lent payload this is cheaper than copying the slice.
    ///
    /// # Panics
    /// If `room` has another length than the payload.
    #[inline]
    pub(crate) fn copy_to(&self, room: &mut [u8]) {
        match &self.0 {
            Bytes::Lent(loan) => loan.copy_to(room),
            _ => room.copy_from_slice(self),
        }
    }

    /// The bytes as a vector.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Bytes::Own(bytes) => bytes.into_vec(),
            Bytes::Lent(loan) => {
                let mut bytes = vec![0; loan.length()];
                loan.copy_to(&mut bytes);
                bytes
            }
            Bytes::Inline { .. } => self.to_vec(),
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { length, bytes } => &bytes.0.as_flattened()[..*length as usize],
            Bytes::Own(bytes) => bytes,
            Bytes::Lent(loan) => loan.bytes(),
        }
    }
}

impl From<&[u8]> for Payload {
    #[inline]
    fn from(from: &[u8]) -> Payload {
        if from.len() > INLINE_BYTES_MAX {
            hoard();
            return Payload(Bytes::Own(from.into()));
        }
        Payload::inline(from)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(from: Vec<u8>) -> Payload {
        match from.len() {
            ..=INLINE_BYTES_MAX => from.as_slice().into(),
            _ => Payload(Bytes::Own(from.into())),
        }
    }
}

impl Default for Payload {
    fn default() -> Payload {
        Payload::new()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        for length in [0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 1000] {
            let bytes: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            for payload in [
                Payload::from(bytes.as_slice()),
                Payload::from(bytes.clone()),
            ] {
                assert_eq!((payload.len(), &*payload), (bytes.len(), &*bytes));
                let mut room = vec![0; length];
                payload.copy_to(&mut room);
                assert_eq!(room, bytes);
                assert_eq!(payload.clone().into_vec(), bytes);
                assert_eq!(payload.is_empty(), length == 0);
                let words = payload.short().map(|words| words.map(u64::to_le_bytes));
                assert_eq!(words.is_some(), length <= 16);
                if let Some(words) = words {
                    let (bytes_of_words, rest) = words.as_flattened().split_at(length);
                    assert_eq!(bytes_of_words, bytes);
                    assert!(rest.iter().all(|byte| *byte == 0));
                }
            }
        }
        assert_eq!(size_of::<Payload>(), 32);
    }
}
