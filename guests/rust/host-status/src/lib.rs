//! host-status: the host's use of memory, as the kernel reports it in `/proc/self/status`.
//!
//! The command line has to grant the folder, before any other: `--dir /proc/self::/proc/self:ro`.

use std::error::Error;
use std::fmt;

/// The file's text at one moment.
pub struct HostStatus(String);

impl HostStatus {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// No folder was granted, or it holds no such file.
    pub fn read() -> Result<HostStatus, StatusError> {
        let text = read_status().map_err(|error| StatusError::Unreadable(error.raw()))?;
        Ok(HostStatus(text))
    }

    /// A field that is a size, in bytes: `VmRSS`, for example.
    ///
    /// # Errors
    ///
    /// There is no such field.
    pub fn bytes(&self, field: &'static str) -> Result<u64, StatusError> {
        // "VmRSS:	  123456 kB"
        let rest = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kibibytes =
            rest.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<u64>().ok());
        kibibytes
            .map(|kibibytes| kibibytes * 1024)
            .ok_or(StatusError::NoField(field))
    }
}

/// The reason why a size is not known.
pub enum StatusError {
    /// The file can't be read. The field is WASI's number of the error.
    Unreadable(u16),
    /// The file has no such field.
    NoField(&'static str),
}

impl fmt::Display for StatusError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(number) => write!(
                formatter,
                "reading status in the directory granted by --dir: error {number} of WASI"
            ),
            Self::NoField(field) => write!(formatter, "no {field} in status"),
        }
    }
}

/// As short as the rest, because each process of a crowd holds the program's data.
impl fmt::Debug for StatusError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Error for StatusError {}

/// Reads the file `status` with WASI's own functions. A program for `wasm32-wasip1` could use `std::fs`. But then the C
/// library may look for granted directories when a process starts, and each process of the crowd would pay for that.
fn read_status() -> Result<String, wasip1::Errno> {
    // The first granted directory follows the three standard streams.
    const GRANTED: wasip1::Fd = 3;
    // Longer than the file.
    let mut text = vec![0; 16 << 10];
    let buffer = wasip1::Iovec {
        buf: text.as_mut_ptr(),
        buf_len: text.len(),
    };
    // SAFETY: `buffer` describes `text`, which no other code uses meanwhile.
    let length = unsafe {
        let file = wasip1::path_open(GRANTED, 0, "status", 0, wasip1::RIGHTS_FD_READ, 0, 0)?;
        let length = wasip1::fd_read(file, &[buffer])?;
        wasip1::fd_close(file)?;
        length
    };
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}
