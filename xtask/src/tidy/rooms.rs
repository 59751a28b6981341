//! Which rooms of the host may import which: the map of ARCHITECTURE.md, as a rule.
//!
//! A room is a folder or a file right below `host/src`. Tests may import anything.

/// A room, and the rooms that it may import. Below come those above; nothing imports upwards.
const ROOMS: [(&str, &[&str]); 13] = [
    ("abi", &[]),
    ("broken", &[]),
    ("sync", &[]),
    ("text", &[]),
    ("process", &["broken", "text"]),
    ("rewriter", &["abi", "broken", "text"]),
    ("scheduler", &["sync"]),
    ("wasi", &["abi"]),
    (
        "system",
        &["abi", "broken", "process", "scheduler", "text", "wasi"],
    ),
    (
        "engine",
        &[
            "abi",
            "broken",
            "process",
            "rewriter",
            "scheduler",
            "sync",
            "system",
            "text",
            "wasi",
        ],
    ),
    (
        "contract",
        &["abi", "broken", "engine", "process", "scheduler", "system"],
    ),
    (
        "runtime",
        &[
            "abi",
            "contract",
            "engine",
            "process",
            "rewriter",
            "scheduler",
            "system",
            "wasi",
        ],
    ),
    // The crate's own root makes public what it chooses to.
    (
        "lib",
        &[
            "abi",
            "broken",
            "contract",
            "engine",
            "process",
            "rewriter",
            "runtime",
            "scheduler",
            "sync",
            "system",
            "text",
            "wasi",
        ],
    ),
];

const HOST: &str = "host/src/";

/// The forbidden imports in a file: the line of each, from 1 on, and the rule.
pub(super) fn forbidden_imports(path: &str, lines: &[&str]) -> Vec<(usize, String)> {
    let Some(room) = room_of(path) else {
        return Vec::new();
    };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![(1, format!("`{room}` is no room that `rooms.rs` knows"))];
    };
    let mut found = Vec::new();
    for (index, imported) in imports(lines) {
        if imported != room && !allowed.contains(&imported.as_str()) {
            let rule = format!("`{room}` may not import `{imported}`; see `rooms.rs`");
            found.push((index + 1, rule));
        }
    }
    found
}

/// The room of a file of the library that is no test.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(HOST)?;
    if inside.starts_with("bin/") || inside.ends_with("tests.rs") || inside.contains("/tests/") {
        return None;
    }
    let end = inside.find(['/', '.'])?;
    Some(&inside[..end])
}

/// Finds the name behind each `crate::` in code, with the line's index, up to the file's own tests.
fn imports(lines: &[&str]) -> Vec<(usize, String)> {
    const CRATE: &str = "crate::";
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if is_test_module(lines, index) {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices(CRATE) {
            let behind = &code[at + CRATE.len()..];
            match behind.strip_prefix('{') {
                // `use crate::{a::b, c};`, on one line or several.
                Some(rest) => {
                    let following = lines[index + 1..].iter().copied();
                    let list: Vec<&str> = std::iter::once(rest)
                        .chain(following.take_while(|_| !rest.contains("};")))
                        .collect();
                    let list = list.join(" ");
                    let list = list.split("};").next().unwrap_or_default();
                    found.extend(heads(list).into_iter().map(|head| (index, head)));
                }
                None => found.push((index, first_word(behind))),
            }
        }
    }
    found
}

fn is_test_module(lines: &[&str], index: usize) -> bool {
    let next = lines.get(index + 1).copied().unwrap_or_default();
    lines[index].trim() == "#[cfg(test)]" && next.contains("mod ") && next.ends_with('{')
}

/// The first words of the elements of a list, in which braces may nest.
fn heads(list: &str) -> Vec<String> {
    let mut depth = 0u32;
    let mut heads = vec![String::new()];
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => heads.push(String::new()),
            _ => {}
        }
        if let Some(head) = heads.last_mut() {
            head.push(character);
        }
    }
    let words = heads
        .iter()
        .map(|head| first_word(head.trim_matches([',', ' '])));
    words.filter(|word| !word.is_empty()).collect()
}

fn first_word(text: &str) -> String {
    let is_word = |character: &char| character.is_alphanumeric() || *character == '_';
    text.chars().take_while(is_word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<usize> {
        let lines: Vec<&str> = text.lines().collect();
        let found = forbidden_imports(path, &lines);
        found.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_room_imports_what_lies_below_it() {
        assert!(rules("host/src/engine/a.rs", "use crate::system::Config;\n").is_empty());
        assert!(rules("host/src/engine/a.rs", "use crate::engine::b;\n").is_empty());
        assert!(rules("guests/a.rs", "use crate::anything;\n").is_empty());
    }

    #[test]
    fn an_import_upwards_is_forbidden_in_every_form() {
        for line in [
            "use crate::engine::Engine;",
            "    crate::engine::load();",
            "use crate::{process::Pid, engine::{a, b}};",
            "pub(crate) use crate::engine;",
        ] {
            let text = format!("//! A.\n{line}\n");
            assert_eq!(rules("host/src/system/mod.rs", &text), [2], "{line}");
        }
        let several = "use crate::{\n    engine::a,\n    process::b,\n};\n";
        assert_eq!(rules("host/src/system/mod.rs", several), [1]);
        // The public names are the root's, which lies above.
        assert_eq!(rules("host/src/system/mod.rs", "use crate::System;\n"), [1]);
    }

    #[test]
    fn tests_and_comments_may_name_anything() {
        for text in [
            "/// See [`crate::engine`].\n",
            "#[cfg(test)]\nmod tests {\n    use crate::engine::a;\n}\n",
        ] {
            assert!(rules("host/src/system/mod.rs", text).is_empty(), "{text}");
        }
        let import = "use crate::engine::a;\n";
        assert!(rules("host/src/system/tests.rs", import).is_empty());
    }

    #[test]
    fn a_room_that_nobody_knows_is_told() {
        assert_eq!(rules("host/src/attic/mod.rs", "//! A.\n"), [1]);
    }

    #[test]
    fn the_rooms_form_no_circle() {
        // Each imports only rooms that come before it.
        for (index, (room, allowed)) in ROOMS.iter().enumerate() {
            for imported in *allowed {
                let is_below = ROOMS[..index].iter().any(|(below, _)| below == imported);
                assert!(is_below, "{room} imports {imported}");
            }
        }
    }
}
