//! Texts of strangers, made safe to print: a guest's names and words must not drive a terminal, pass for lines of the
//! host's, or fill the log.

/// Names are cut to this many bytes.
pub const NAME_SHOWN_BYTES_MAX: usize = 120;

/// The text with control characters shown for what they are, cut to `bytes_max` bytes.
pub fn printable(text: &str, bytes_max: usize) -> String {
    let shown = &text[..text.floor_char_boundary(bytes_max)];
    let mut safe = String::with_capacity(shown.len());
    for char in shown.chars() {
        if char.is_control() {
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

/// A name, made safe to print.
pub fn printable_name(name: &str) -> String {
    printable(name, NAME_SHOWN_BYTES_MAX)
}

/// Several lines, each made safe to print, and not too many of them.
pub(crate) fn printable_lines(text: &str) -> String {
    const LINES_SHOWN_MAX: usize = 12;
    const LINE_SHOWN_BYTES_MAX: usize = 300;
    let lines = text.lines().take(LINES_SHOWN_MAX);
    lines
        .map(|line| printable(line, LINE_SHOWN_BYTES_MAX))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_length_is_bounded() {
        assert_eq!(printable("ünï \x1b[2J\nx", 99), "ünï \\u{1b}[2J\\nx");
        assert_eq!(printable("üü", 3), "ü… (4 bytes)");
        assert_eq!(printable_lines("a\n\tb"), "a\n\\tb");
        assert!(printable_lines(&"x\n".repeat(1000)).len() < 100);
    }
}
