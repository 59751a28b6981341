//! How typed values become bytes: postcard, and nothing around it.

use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::slice;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Values that take no more than this are encoded on the stack, without an allocation. Most messages do.
const SMALL_BYTES: usize = 128;

/// Encodes a value and hands the bytes to `take`.
///
/// Panics if the value refuses to be serialized, which derived implementations never do. A sequence whose length is not
/// known beforehand, as an iterator's, refuses.
pub fn with_encoded<T, R>(value: &T, take: impl FnOnce(&[u8]) -> R) -> R
where
    T: Serialize + ?Sized,
{
    let mut room = [MaybeUninit::uninit(); SMALL_BYTES];
    match postcard::serialize_with_flavor(value, Small::new(&mut room)) {
        Ok(bytes) => take(bytes),
        Err(postcard::Error::SerializeBufferFull) => match postcard::to_allocvec(value) {
            Ok(bytes) => take(&bytes),
            Err(error) => refuse(error),
        },
        Err(error) => refuse(error),
    }
}

/// Writes into a little room on the stack, and refuses what does not fit.
///
/// postcard has the like, over bytes that are zero at first: to make them so is an instruction that the host carries out,
/// which every send would pay.
struct Small<'a> {
    room: &'a mut [MaybeUninit<u8>; SMALL_BYTES],
    /// How many bytes at the beginning of the room have been written.
    length: usize,
}

impl<'a> Small<'a> {
    fn new(room: &'a mut [MaybeUninit<u8>; SMALL_BYTES]) -> Self {
        Self { room, length: 0 }
    }
}

impl<'a> Flavor for Small<'a> {
    type Output = &'a [u8];

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let free = self.room.get_mut(self.length);
        free.ok_or(postcard::Error::SerializeBufferFull)?
            .write(byte);
        self.length += 1;
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let free = &mut self.room[self.length..];
        let free = free.get_mut(..bytes.len());
        free.ok_or(postcard::Error::SerializeBufferFull)?
            .write_copy_of_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<&'a [u8]> {
        // SAFETY: the first `length` bytes of the room have been written, and it is borrowed for as long as they are.
        Ok(unsafe { slice::from_raw_parts(self.room.as_ptr().cast(), self.length) })
    }
}

#[cold]
fn refuse(error: postcard::Error) -> ! {
    match error {
        postcard::Error::SerializeSeqLengthUnknown => {
            panic!("a value can't be encoded: the length of a sequence is not known beforehand")
        }
        _ => panic!("a value can't be encoded: its type refuses"),
    }
}

/// Decodes a value that takes up all of the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(DecodeError(Why::BytesTooMany(rest.len()))),
        Err(postcard::Error::DeserializeUnexpectedEnd) => Err(DecodeError(Why::EndsTooEarly)),
        Err(_) => Err(DecodeError(Why::OtherType)),
    }
}

/// Why bytes could not be read as a value of the type that was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Why);

/// What postcard says in many more words: each process would hold them.
#[derive(Clone, PartialEq, Eq)]
enum Why {
    BytesTooMany(usize),
    EndsTooEarly,
    OtherType,
    ExternalTerm,
}

impl DecodeError {
    /// The payload is marked as one of Erlang's terms, which this crate does not read.
    pub(crate) fn external_term() -> Self {
        Self(Why::ExternalTerm)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Why::BytesTooMany(bytes) => return write!(formatter, "{bytes} bytes too many"),
            Why::EndsTooEarly => "it ends too early",
            Why::OtherType => "it is not a value of the type that was asked for",
            Why::ExternalTerm => "it is in Erlang's external term format",
        })
    }
}

debug_as_display!(DecodeError);

impl Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        with_encoded(value, <[u8]>::to_vec)
    }

    #[test]
    fn values_of_any_size_come_back() {
        for length in [
            0,
            1,
            SMALL_BYTES - 2,
            SMALL_BYTES - 1,
            SMALL_BYTES,
            10 * SMALL_BYTES,
        ] {
            let text = "x".repeat(length);
            assert_eq!(decode(&encoded(&text)), Ok(text));
        }
    }

    #[test]
    fn what_does_not_fit_on_the_stack_comes_back_whole() {
        let bytes = [7_u8; SMALL_BYTES];
        for length in [SMALL_BYTES - 1, SMALL_BYTES] {
            // Byte by byte, and behind one that has been written already.
            let values = (1_u8, bytes[..length].to_vec());
            assert_eq!(decode(&encoded(&values)), Ok(values));
        }
    }

    #[test]
    fn a_start_argument_is_an_index_and_the_value() {
        assert_eq!(
            encoded(&(7_u32.to_le_bytes(), 300_u64)),
            [7, 0, 0, 0, 0xac, 0x02]
        );
    }

    #[test]
    fn what_is_missing_or_left_over_is_an_error() {
        fn told<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
            decode::<T>(bytes).err().map(|error| error.to_string())
        }
        assert_eq!(told::<u64>(&[]).as_deref(), Some("it ends too early"));
        assert_eq!(told::<u8>(&[1, 2, 3]).as_deref(), Some("2 bytes too many"));
        let other = "it is not a value of the type that was asked for";
        assert_eq!(told::<bool>(&[2]).as_deref(), Some(other));
        assert_eq!(told::<bool>(&[1]), None);
    }

    #[test]
    fn an_error_shows_itself_as_it_reads() {
        let error = DecodeError::external_term();
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}
