//! Makes untrusted texts safe to print. A guest's names and strings must not control a terminal, imitate the host's own lines, or
//! fill the log.

use std::fmt::{self, Write};

/// Names are cut to this many bytes.
pub const NAME_SHOWN_BYTES_MAX: usize = 120;

/// Escapes characters that are invisible or change how others are shown. Cuts the text to `bytes_max` bytes.
pub fn printable(text: &str, bytes_max: usize) -> String {
    let shown = &text[..text.floor_char_boundary(bytes_max)];
    let mut safe = String::with_capacity(shown.len());
    for char in shown.chars() {
        if char.is_control() || is_invisible(char) {
            safe.extend(char.escape_default());
        } else {
            safe.push(char);
        }
    }
    if shown.len() < text.len() {
        safe += &format!("… ({} bytes)", text.len());
    }
    safe
}

/// Is this character invisible, or does it change how its neighbours are shown? These are Unicode's general categories Cf, Zl and
/// Zp, and fillers that look like nothing. With them a name could reverse a line or imitate another name.
fn is_invisible(char: char) -> bool {
    matches!(u32::from(char),
        0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2
        | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f | 0x2028..=0x202e
        | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd
        | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

/// Makes a name safe to print.
pub fn printable_name(name: &str) -> String {
    printable(name, NAME_SHOWN_BYTES_MAX)
}

/// Makes several lines safe to print, and limits their number.
pub(crate) fn printable_lines(text: &str) -> String {
    const LINES_SHOWN_MAX: usize = 12;
    const LINE_SHOWN_BYTES_MAX: usize = 300;
    let lines = text.lines().take(LINES_SHOWN_MAX);
    lines
        .map(|line| printable(line, LINE_SHOWN_BYTES_MAX))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Formats only the first `bytes_max` bytes of a text, however long it is.
pub(crate) fn start_of(text: fmt::Arguments<'_>, bytes_max: usize) -> String {
    let mut start = Start {
        text: String::new(),
        bytes_max,
    };
    // Formatting fails when the limit is reached.
    let _ = start.write_fmt(text);
    start.text
}

/// Holds the first part of a text. Writing more fails.
struct Start {
    text: String,
    bytes_max: usize,
}

impl Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.bytes_max.saturating_sub(self.text.len()));
        self.text.push_str(&text[..fits]);
        match fits == text.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arbtest::arbtest;

    #[test]
    fn any_text_is_made_printable_within_bounds() {
        // An escaped character of one byte is at most `\u{7f}`; longer ones take fewer bytes for each of theirs.
        const SHOWN_PER_BYTE: usize = 6;
        const NOTE_BYTES_MAX: usize = "… ( bytes)".len() + 20;
        let is_safe = |text: &str| {
            !text
                .chars()
                .any(|char| char.is_control() || is_invisible(char))
        };
        arbtest(|random| {
            let text = match random.arbitrary()? {
                // Characters that are escaped are rare among all.
                true => random.arbitrary::<String>()?,
                false => {
                    let chars = random.arbitrary_iter::<u16>()?;
                    let chars = chars.map(|char| Ok(char::from_u32(char?.into()).unwrap_or('\n')));
                    chars.collect::<arbtest::arbitrary::Result<String>>()?
                }
            };
            let bytes_max = random.int_in_range(0..=600)?;
            let shown = printable(&text, bytes_max);
            assert!(is_safe(&shown), "{shown:?}");
            assert!(shown.len() <= SHOWN_PER_BYTE * bytes_max + NOTE_BYTES_MAX);
            let lines = printable_lines(&text);
            assert!(lines.lines().count() <= 12 && lines.split('\n').all(is_safe));
            let start = start_of(format_args!("{text}{text}"), bytes_max);
            assert!(start.len() <= bytes_max && (text.clone() + &text).starts_with(&start));
            Ok(())
        });
    }

    #[test]
    fn control_characters_are_shown_and_length_is_bounded() {
        assert_eq!(printable("ünï \x1b[2J\nx", 99), "ünï \\u{1b}[2J\\nx");
        assert_eq!(
            printable("a\u{202e}b\u{200b}\u{2066}c", 99),
            "a\\u{202e}b\\u{200b}\\u{2066}c"
        );
        assert_eq!(printable("üü", 3), "ü… (4 bytes)");
        assert_eq!(printable_lines("a\n\tb"), "a\n\\tb");
        assert!(printable_lines(&"x\n".repeat(1000)).len() < 100);
    }

    #[test]
    fn the_start_of_a_text_ends_between_characters() {
        assert_eq!(start_of(format_args!("{}", "short"), 9), "short");
        assert_eq!(start_of(format_args!("a{}c", "üü"), 4), "aü");
        assert_eq!(start_of(format_args!("{}{}", "abc", "def"), 3), "abc");
    }
}
