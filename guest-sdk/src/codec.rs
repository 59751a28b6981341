//! Encodes typed values as bytes: in postcard, without a header.

use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::slice;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Values up to this size are encoded on the stack, without an allocation. Most messages are.
const SMALL_BYTES: usize = 128;

/// Encodes a value and passes the bytes to `take`.
///
/// Panics if the value refuses to be serialized. Derived implementations never do. A sequence without a known length, such as an
/// iterator's, does.
pub fn with_encoded<T, R>(value: &T, take: impl FnOnce(&[u8]) -> R) -> R
where
    T: Serialize + ?Sized,
{
    let mut buffer = [MaybeUninit::uninit(); SMALL_BYTES];
    match postcard::serialize_with_flavor(value, Small::new(&mut buffer)) {
        Ok(bytes) => take(bytes),
        Err(postcard::Error::SerializeBufferFull) => match postcard::to_allocvec(value) {
            Ok(bytes) => take(&bytes),
            Err(error) => refuse(error),
        },
        Err(error) => refuse(error),
    }
}

/// Writes into a small buffer on the stack, and refuses bytes that do not fit.
///
/// postcard has the same over a zeroed buffer. Zeroing is an instruction that calls the host, and every send would pay for that.
struct Small<'a> {
    buffer: &'a mut [MaybeUninit<u8>; SMALL_BYTES],
    /// The number of bytes written at the beginning of the buffer.
    length: usize,
}

impl<'a> Small<'a> {
    fn new(buffer: &'a mut [MaybeUninit<u8>; SMALL_BYTES]) -> Self {
        Self { buffer, length: 0 }
    }
}

impl<'a> Flavor for Small<'a> {
    type Output = &'a [u8];

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        let free = self.buffer.get_mut(self.length);
        free.ok_or(postcard::Error::SerializeBufferFull)?
            .write(byte);
        self.length += 1;
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let free = &mut self.buffer[self.length..];
        let free = free.get_mut(..bytes.len());
        free.ok_or(postcard::Error::SerializeBufferFull)?
            .write_copy_of_slice(bytes);
        self.length += bytes.len();
        Ok(())
    }

    fn finalize(self) -> postcard::Result<&'a [u8]> {
        // SAFETY: the first `length` bytes of the buffer have been written, and the result borrows the buffer.
        Ok(unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.length) })
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

/// The reason why bytes could not be decoded as a value of the expected type.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Why);

/// postcard's errors without their many texts, of which each process would hold a copy.
#[derive(Clone, PartialEq, Eq)]
enum Why {
    BytesTooMany(usize),
    EndsTooEarly,
    OtherType,
    ExternalTerm,
}

impl DecodeError {
    /// The payload is marked as an Erlang term, which this crate does not read.
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
    fn values_too_large_for_the_stack_come_back_whole() {
        let bytes = [7_u8; SMALL_BYTES];
        for length in [SMALL_BYTES - 1, SMALL_BYTES] {
            // The first value is written already, and then the sequence comes byte by byte.
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
    fn missing_or_extra_bytes_are_an_error() {
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
    fn debug_of_an_error_is_its_display() {
        let error = DecodeError::external_term();
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}
