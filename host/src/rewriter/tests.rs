//! Untrusted bytes through the loader: random ones, random modules, mutants of both, and odd custom sections.
//!
//! `arbtest` makes the bytes. It prints the seed of a failure; `ARBTEST_SEED` runs one seed again, and
//! `ARBTEST_BUDGET_MS` searches for longer. A file may be refused, but the loader must not panic, its output must be
//! valid and in proportion to the file, and its errors must be fit to print. None of the code runs here.

use super::{Exported, LoadError, Rewritten, features, rewrite};
use crate::{Inspection, contract_module};
use arbtest::arbitrary::{Result, Unstructured};
use arbtest::{ArbTest, arbtest};
use std::sync::OnceLock;
use wasm_encoder::{CustomSection, Encode, IndirectNameMap, NameMap, NameSection, Section};
use wasm_smith::Config;

/// How long each test searches if `ARBTEST_BUDGET_MS` says nothing.
const BUDGET_MS: u64 = 1000;
/// A rewritten module has at most so many bytes for each byte of the file, and these in any case: the glue, and the
/// contract's functions that it imports.
const BYTES_PER_BYTE: usize = 32;
const BYTES_FREE: usize = 64 << 10;
/// An error shows at most so much of the file's own texts.
const ERROR_BYTES_MAX: usize = 32 << 10;
/// Mutations of one file.
const MUTATIONS_MAX: usize = 8;
/// A real program: Rust's standard library and its allocator are in it.
const REAL: &[u8] = include_bytes!("../bin/atoll/fuzz/canaries.wasm");

/// Modules and components with parts that the rewriter treats on their own.
const TEXTS: &[&str] = &[
    r#"(module (func (export "run")))"#,
    r#"(module
        (import "atoll-rt:process/lifecycle@0.2.0" "yield-now" (func $yield))
        (memory (export "memory") 1)
        (func (export "run") (loop $again (call $yield) (br $again)))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable)))"#,
    r#"(module
        (memory 1 2) (memory 1) (table $t 4 funcref) (global $g (mut i64) (i64.const -1))
        (elem (i32.const 0) $run $f) (elem $passive func $f) (data "abc") (data (memory 1) (i32.const 9) "def")
        (func $run (export "_start") (call_indirect (type 0) (i32.const 0)) (table.init $passive (i32.const 0) (i32.const 0) (i32.const 1)))
        (func $f (memory.fill (i32.const 0) (i32.const 0) (i32.const 99)) (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))
            (memory.copy 0 1 (i32.const 0) (i32.const 0) (i32.const 9)) (drop (memory.grow (i32.const 1)))
            (block (block (br_table 0 1 0 (i32.const 1)))) (return_call $run))
        (start $f))"#,
    r#"(component
        (core module $m (memory (export "memory") 1) (func (export "run")))
        (core instance $i (instantiate $m))
        (func $run (canon lift (core func $i "run")))
        (export "run" (func $run)))"#,
    r#"(component
        (import "atoll-rt:process/lifecycle@0.2.0" (instance $lifecycle (export "yield-now" (func))))
        (core func $yield (canon lower (func $lifecycle "yield-now")))
        (core module $m
            (import "atoll-rt:process/lifecycle@0.2.0" "yield-now" (func))
            (memory (export "memory") 1) (func (export "run") (call 0)))
        (core instance $imports (export "yield-now" (func $yield)))
        (core instance $i (instantiate $m (with "atoll-rt:process/lifecycle@0.2.0" (instance $imports))))
        (func $run (canon lift (core func $i "run")))
        (export "run" (func $run)))"#,
    r#"(component (component (core module (func))) (core module (memory 1)))"#,
];

/// Names of custom sections that tools and runtimes know.
const CUSTOM: [&str; 12] = [
    "name",
    ".debug_info",
    ".debug_line",
    ".debug_abbrev",
    ".debug_str",
    "producers",
    "target_features",
    "linking",
    "dylink.0",
    "metadata.code.branch_hint",
    "component-name",
    "component-type:guest",
];

/// Loads a file in each way. Returns an error if the file is refused.
fn load(file: &[u8], slice: u64) -> std::result::Result<(), LoadError> {
    for exported in [Exported::Needed, Exported::All] {
        match rewrite(file, u64::MAX, slice, exported) {
            Ok(Rewritten::Module(module)) => {
                let Some(bytes) = module.bytes else { continue };
                let most = BYTES_PER_BYTE * file.len() + BYTES_FREE;
                assert!(bytes.len() <= most, "{} of {}", bytes.len(), file.len());
                if let Err(error) = features::validate_module(&bytes) {
                    panic!("the rewritten module: {error}");
                }
            }
            Ok(Rewritten::Component(component)) => assert!(!component.why.is_empty()),
            Err(error) => check_error(&error),
        }
    }
    Inspection::of(file).map(|_| ()).inspect_err(check_error)
}

fn check_error(error: &LoadError) {
    let text = error.to_string();
    assert!(text.len() <= ERROR_BYTES_MAX, "{} bytes", text.len());
    let control = text.chars().find(|char| char.is_control() && *char != '\n');
    assert_eq!(control, None, "{text:?}");
}

fn search<P: FnMut(&mut Unstructured<'_>) -> Result<()>>(property: P) -> ArbTest<P> {
    let test = arbtest(property);
    match std::env::var_os("ARBTEST_BUDGET_MS") {
        Some(_) => test,
        None => test.budget_ms(BUDGET_MS),
    }
}

fn slice(random: &mut Unstructured<'_>) -> Result<u64> {
    random.choose(&[1, 7, 4000, u32::MAX.into()]).copied()
}

/// A file that may be valid.
fn file(random: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    static EXAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let examples = EXAMPLES.get_or_init(|| {
        let texts = TEXTS.iter().map(wat::parse_str);
        let binaries = texts.map(|binary| binary.expect("the text is right"));
        binaries.chain([REAL.to_vec(), contract_module()]).collect()
    });
    match random.ratio(1, 2)? {
        true => random.choose(examples).cloned(),
        false => module(random),
    }
}

/// A random module whose proposals are mostly those that are on.
fn module(random: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let exports = wat::parse_str(TEXTS[1]).expect("the text is right");
    let config = Config {
        available_imports: random.ratio(1, 2)?.then(contract_module),
        exports: random.ratio(3, 4)?.then_some(exports),
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        reference_types_enabled: random.ratio(1, 4)?,
        wide_arithmetic_enabled: false,
        max_imports: 20,
        max_memories: 2,
        max_tables: 2,
        ..Config::default()
    };
    Ok(wasm_smith::Module::new(config, random)?.to_bytes())
}

/// Flips, cuts, repeats and inserts bytes.
fn mutate(file: &mut Vec<u8>, random: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..random.int_in_range(1..=MUTATIONS_MAX)? {
        let Some(last) = file.len().checked_sub(1) else {
            return Ok(());
        };
        let at = random.int_in_range(0..=last)?;
        let end = random.int_in_range(at..=last.min(at + 64))? + 1;
        match random.int_in_range(0..=4)? {
            0 => file[at] ^= 1 << random.int_in_range(0..=7)?,
            1 => file[at] = random.arbitrary()?,
            2 => drop(file.drain(at..end)),
            3 => {
                let piece = file[at..end].to_vec();
                let to = random.int_in_range(0..=last)?;
                file.splice(to..to, piece);
            }
            _ => {
                let piece: [u8; 4] = random.arbitrary()?;
                file.splice(at..at, piece);
            }
        }
    }
    Ok(())
}

/// A custom section with garbage, or a section of names that mean nothing or do harm.
fn odd_section(random: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if random.ratio(1, 2)? {
        let name = *random.choose(&CUSTOM)?;
        let length = random.arbitrary_len::<u8>()?.min(5000);
        let section = CustomSection {
            name: name.into(),
            data: random.bytes(length)?.into(),
        };
        bytes.push(section.id());
        section.encode(&mut bytes);
        return Ok(bytes);
    }
    let mut names = NameSection::new();
    let mut functions = NameMap::new();
    let mut locals = IndirectNameMap::new();
    for _ in 0..random.int_in_range(0..=20)? {
        let name: &str = random.arbitrary()?;
        let prefix = *random.choose(&["", "_ZN", "_RNvC3foo", "_RINvC1a1b", "\u{1b}[2J"])?;
        let repeated = name.repeat(random.int_in_range(0..=50)?);
        functions.append(random.arbitrary()?, &format!("{prefix}{repeated}"));
        locals.append(random.arbitrary()?, &functions);
    }
    names.functions(&functions);
    names.locals(&locals);
    bytes.push(names.id());
    names.encode(&mut bytes);
    Ok(bytes)
}

#[test]
fn random_bytes_are_refused_or_loaded() {
    let beginnings: [&[u8]; 6] = [
        b"",
        b"\0asm\x01\0\0\0",
        b"\0asm\x0d\0\x01\0",
        b"(module",
        b"(component",
        b"(module (func (export \"run\") ",
    ];
    search(|random| {
        let beginning = *random.choose(&beginnings)?;
        let file = [beginning, random.peek_bytes(random.len()).unwrap_or(&[])].concat();
        let _ = load(&file, 4000);
        Ok(())
    })
    .size_max(4096);
}

#[test]
fn random_modules_are_refused_or_loaded() {
    search(|random| {
        let _ = load(&file(random)?, slice(random)?);
        Ok(())
    });
}

#[test]
fn mutants_are_refused_or_loaded() {
    search(|random| {
        let mut file = file(random)?;
        mutate(&mut file, random)?;
        let _ = load(&file, slice(random)?);
        Ok(())
    });
}

#[test]
fn custom_sections_do_not_decide_whether_a_file_is_loaded() {
    const HEADER_BYTES: usize = 8;
    search(|random| {
        let slice = slice(random)?;
        let mut file = file(random)?;
        let before = load(&file, slice).map_err(|error| error.kind());
        for _ in 0..random.int_in_range(1..=3)? {
            let section = odd_section(random)?;
            let at = *random.choose(&[HEADER_BYTES, file.len()])?;
            file.splice(at..at, section);
        }
        let after = load(&file, slice).map_err(|error| error.kind());
        assert_eq!(before, after);
        Ok(())
    });
}

#[test]
fn errors_show_no_control_characters_of_the_file() {
    let twice = r#"(module (func) (export "\1b[2J" (func 0)) (export "\1b[2J" (func 0)))"#;
    let file = wat::parse_str(twice).expect("the text is right");
    assert!(load(&file, 4000).is_err());
    // Nesting, as deep as a text may be long, does not overflow the parser's stack.
    for opening in [
        "(",
        "(module",
        "(module (func (block",
        "(module (func block",
    ] {
        let _ = load(opening.repeat(1 << 16).as_bytes(), 4000);
        let inner = opening.trim_start_matches("(module (func ");
        let _ = load(
            format!("(module (func {}", format!("{inner} ").repeat(1 << 16)).as_bytes(),
            4000,
        );
    }
    let long = "x".repeat(100_000);
    let twice = format!(r#"(module (func) (export "{long}" (func 0)) (export "{long}" (func 0)))"#);
    let file = wat::parse_str(twice).expect("the text is right");
    assert!(load(&file, 4000).is_err());
}
