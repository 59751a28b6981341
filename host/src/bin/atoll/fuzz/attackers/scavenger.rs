//! Attackers that leave marked bytes behind, and look for what earlier processes have left: in their memory, globals and
//! tables, all of which must be as the module says.

use crate::fuzz::dice::Dice;

/// The beginning of the names of functions that end a process which has found something.
pub const FOUND_PREFIX: &str = "found:";

const TEMPLATE: &str = include_str!("scavenger.wat.in");

const CHANGES_OF_TABLES: &str = "
    (drop (table.grow $table (ref.func $run) (i32.const 3)))
    (table.fill $table (i32.const 0) (ref.func $run) (table.size $table))
    (table.set $table (i32.const 1) (ref.null func))";

/// Makes a module. Its processes compare everything with the module, change everything, and end in one of several ways.
pub fn make(dice: &mut Dice) -> Vec<u8> {
    wat::parse_str(text(dice)).unwrap_or_default()
}

fn text(dice: &mut Dice) -> String {
    let pages = 1 + dice.below(4);
    // An instance whose memory has grown, or whose module can change tables, is used only once.
    let grown = if dice.percent(30) { dice.below(30) } else { 0 };
    let tables = match dice.percent(30) {
        true => CHANGES_OF_TABLES,
        false => "",
    };
    let mark = 1 + dice.below(255);
    let data_at = 8 * dice.below(8000);
    let elements = 2 + dice.below(6);
    let number = dice.any() as i64;
    let ending = *dice.pick(&[
        "",
        "",
        "(unreachable)",
        "(call $exit (i32.const 10) (i32.const 0) (i32.const 16))",
        "(loop $for_ever (br $for_ever))",
        "(drop (i32.load (i32.const -4)))",
        "(call $hibernate) (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 64))",
    ]);
    let values = [
        ("<pages>", pages.to_string()),
        ("<elements>", elements.to_string()),
        ("<number>", number.to_string()),
        ("<data_at>", data_at.to_string()),
        ("<grown>", grown.to_string()),
        ("<mark>", mark.to_string()),
        ("<tables>", tables.to_owned()),
        ("<ending>", ending.to_owned()),
    ];
    let template = TEMPLATE.to_owned();
    values
        .iter()
        .fold(template, |text, (name, value)| text.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scavenger_is_a_module() {
        for seed in 0..200 {
            let text = text(&mut Dice::new(seed));
            let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            wasmparser::validate(&bytes).unwrap();
        }
    }
}
