//! Amounts as people write them: sizes, times, shares of a core.

use atoll_rt::{Overflow, Rights};
use std::time::Duration;

/// Parses a number of bytes, with or without a binary unit.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        unit => return Err(format!("`{unit}` is no unit; use KiB, MiB or GiB")),
    };
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| "write it as a number with a unit, such as 64KiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more than any machine has".into())
}

/// Parses a length of time, with a unit or in seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "min" => 60.0,
        unit => return Err(format!("`{unit}` is no unit; use ms, s or min")),
    };
    let number: f64 = digits
        .trim()
        .parse()
        .map_err(|_| "write it as a number with a unit, such as 500ms or 5s".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "that is no length of time".into())
}

/// The time after which a process is hibernated, or none for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hibernation(pub Option<Duration>);

/// Parses a [`Hibernation`].
pub fn hibernation(text: &str) -> Result<Hibernation, String> {
    match text {
        "never" => Ok(Hibernation(None)),
        time => duration(time)
            .map(|time| Hibernation(Some(time)))
            .map_err(|error| format!("{error}; or write `never`")),
    }
}

/// Parses a share of the machine, in percent of a core, into thousandths of a core.
pub fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: f64 = number
        .parse()
        .map_err(|_| "write it in percent of a core, such as 25%".to_owned())?;
    let thousandths = percent * 10.0;
    match (1.0..=1e6).contains(&thousandths) {
        true => Ok(thousandths as u32),
        false => Err("a share lies between 0.1% and 100000% of a core".into()),
    }
}

/// The fates of a message that a mailbox has no room for, by name.
const OVERFLOWS: [(&str, Overflow); 4] = [
    ("end", Overflow::End),
    ("reject", Overflow::Reject),
    ("drop-newest", Overflow::DropNewest),
    ("drop-oldest", Overflow::DropOldest),
];

/// Parses the fate of a message that a mailbox has no room for.
pub fn overflow(text: &str) -> Result<Overflow, String> {
    let found = OVERFLOWS.iter().find(|(name, _)| *name == text);
    found.map(|(_, overflow)| *overflow).ok_or_else(|| {
        let names: Vec<_> = OVERFLOWS.iter().map(|(name, _)| *name).collect();
        format!("write one of: {}", names.join(", "))
    })
}

/// Parses the name of a right.
pub fn right(text: &str) -> Result<Rights, String> {
    Rights::named(text).ok_or_else(|| {
        let names: Vec<_> = Rights::all_names().collect();
        format!("`{text}` is no right; the rights are: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("1GiB", 1 << 30),
            ("2M", 2 << 20),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5GiB", "1TB", "99999999999GiB", "1 2"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hibernation_may_be_never() {
        assert_eq!(hibernation("never"), Ok(Hibernation(None)));
        assert_eq!(hibernation("0"), Ok(Hibernation(Some(Duration::ZERO))));
        assert!(hibernation("ever").is_err());
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in [("0", 0), ("500ms", 500), ("1.5s", 1500), ("2min", 120_000)] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "-1s", "1h", "nan", "inf", "1e400s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_of_a_core() {
        for (text, thousandths) in [
            ("25%", 250),
            ("25", 250),
            ("0.1%", 1),
            ("400%", 4000),
            ("12.5 %", 125),
        ] {
            assert_eq!(rate(text), Ok(thousandths), "{text}");
        }
        for text in ["", "%", "0", "-5%", "nan", "inf", "1e9%", "25‰", "a core"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rights_and_policies_have_names() {
        assert_eq!(right("names"), Ok(Rights::NAMES));
        assert!(right("name").is_err_and(|error| error.contains("standard-input")));
        assert_eq!(overflow("drop-oldest"), Ok(Overflow::DropOldest));
        assert!(overflow("drop").is_err());
    }
}
