//! How typed values become bytes: postcard, and nothing around it.

use std::error::Error;
use std::fmt;

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
    let mut small = [0; SMALL_BYTES];
    match postcard::to_slice(value, &mut small) {
        Ok(bytes) => take(bytes),
        Err(postcard::Error::SerializeBufferFull) => match postcard::to_allocvec(value) {
            Ok(bytes) => take(&bytes),
            Err(error) => refuse(error),
        },
        Err(error) => refuse(error),
    }
}

#[cold]
fn refuse(error: postcard::Error) -> ! {
    panic!("a value can't be encoded: {error}")
}

/// Decodes a value that takes up all of the bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(DecodeError(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(DecodeError(error.to_string())),
    }
}

/// Why bytes could not be read as a value of the type that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl DecodeError {
    /// The payload is marked as one of Erlang's terms, which this crate does not read.
    pub(crate) fn external_term() -> Self {
        Self("it is in Erlang's external term format".to_owned())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

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
    fn a_start_argument_is_an_index_and_the_value() {
        assert_eq!(
            encoded(&(7_u32.to_le_bytes(), 300_u64)),
            [7, 0, 0, 0, 0xac, 0x02]
        );
    }

    #[test]
    fn what_is_missing_or_left_over_is_an_error() {
        assert!(decode::<u64>(&[]).is_err());
        assert_eq!(
            decode::<u8>(&[1, 2, 3]),
            Err(DecodeError("2 bytes too many".into()))
        );
    }
}
