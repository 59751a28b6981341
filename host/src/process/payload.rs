//! A message's bytes: in the message itself, in an allocation of their own, or lent.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Payloads up to this size are stored in the message itself. With it a payload takes 32 bytes.
pub(crate) const INLINE_BYTES_MAX: usize = 24;

/// A message's bytes, which the host never looks into.
#[derive(Clone)]
pub struct Payload(Bytes);

#[derive(Clone)]
enum Bytes {
    Inline { length: u32, bytes: Words },
    Own(Box<[u8]>),
    Lent(Arc<dyn Loan>),
}

/// Room for short payloads, zero behind them. It is written and moved in whole words: bytes that were just written one way
/// and are read in another make the processor wait.
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

/// Bytes that are still with their sender: who wants them copies them from there, or from what it left when it went on.
pub(crate) trait Loan: Send + Sync {
    /// How many there are.
    fn length(&self) -> usize;

    /// Copies them all into a room of that length.
    fn copy_to(&self, room: &mut [u8]);

    /// All of them, for which they are copied to the host first.
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

    /// Bytes that are stored in the message itself: no more than [`INLINE_BYTES_MAX`].
    #[inline(always)]
    pub(crate) fn inline(bytes: &[u8]) -> Payload {
        assert!(bytes.len() <= INLINE_BYTES_MAX);
        Payload(Bytes::Inline {
            length: bytes.len() as u32,
            bytes: Words::new(bytes),
        })
    }

    /// Bytes that are copied when they are asked for.
    pub(crate) fn lent(loan: Arc<dyn Loan>) -> Payload {
        Payload(Bytes::Lent(loan))
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Inline { length, .. } => *length as usize,
            Bytes::Own(bytes) => bytes.len(),
            Bytes::Lent(loan) => loan.length(),
        }
    }

    /// How many of them were copied to make it.
    #[inline]
    pub(crate) fn copied_bytes(&self) -> usize {
        match &self.0 {
            Bytes::Lent(_) => 0,
            _ => self.len(),
        }
    }

    /// The bytes, from the lowest on, if there are at most 16.
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

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies all bytes into a room of the same length: cheaper than copying them as a slice, if they are lent.
    ///
    /// # Panics
    /// When the room has another length.
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
