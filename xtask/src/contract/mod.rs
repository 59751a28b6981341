//! `cargo xtask contract`: writes `contract.rs` and `layout.rs` of `host/src/abi`: the canonical ABI's view of `wit/process.wit`.
//!
//! The file holds the signature of each function as core wasm has it, and the layout of each type in memory ([`layout`]).
//! `cargo xtask tidy` makes the text again and compares ([`breach`]). Nothing here knows what the functions do, and of
//! the host it knows two types only: `Function` and `Layout`, in `host/src/abi/mod.rs`.

mod layout;

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Function, Resolve, SizeAlign, Type, TypeDefKind};

use crate::workspace::{Workspace, run};

/// The contract, from the top of the repository.
const SOURCE: &str = "wit/process.wit";
/// The generated file with the functions.
const FUNCTIONS: &str = "host/src/abi/contract.rs";
/// The generated file with the layouts of types.
const LAYOUTS: &str = "host/src/abi/layout.rs";
/// The record that `receive` and `call` hand over, and the field whose bytes may come with the answer.
const MESSAGE: &str = "message";
const PAYLOAD: &str = "payload";

/// The functions that the host carries out in one call: interface and name. WIT can't say which these are.
///
/// Each reads or changes only what belongs to the calling process, in a time that no argument makes longer, so it never has
/// to wait. Hence the rewriter needs no glue for it. Every other function may answer "ask again", and so gets the guard
/// that makes a process pause when the host has worked a whole slice for it.
const ANSWER_AT_ONCE: [(&str, &str); 6] = [
    ("lifecycle", "self"),
    // Never returns, so there is nobody to ask again.
    ("lifecycle", "exit"),
    ("lifecycle", "set-priority"),
    ("lifecycle", "hibernate"),
    ("mailbox", "make-reference"),
    ("signals", "trap-exit"),
];

/// Writes the generated files.
pub fn write(workspace: &Workspace) -> Result<()> {
    for (target, text) in generate(&read(workspace, SOURCE)?)?.files() {
        fs::write(workspace.root.join(target), text)
            .with_context(|| format!("writing {target}"))?;
        let mut rustfmt = Command::new("rustfmt");
        rustfmt.current_dir(&workspace.root);
        run(rustfmt.args(["--edition", "2024"]).arg(target))?;
        println!("{target} says what {SOURCE} says");
    }
    Ok(())
}

/// The complaint about a generated file, if one is not that of the contract.
pub fn breach(workspace: &Workspace) -> Result<Option<String>> {
    let checked_in = Generated {
        functions: read(workspace, FUNCTIONS)?,
        layouts: read(workspace, LAYOUTS)?,
    };
    breach_of(&read(workspace, SOURCE)?, &checked_in)
}

fn breach_of(wit: &str, checked_in: &Generated) -> Result<Option<String>> {
    let fresh = generate(wit)?;
    let mut pairs = fresh.files().into_iter().zip(checked_in.files());
    let stale = pairs.find(|((_, fresh), (_, old))| essence(fresh) != essence(old));
    Ok(stale.map(|((target, _), _)| {
        format!("{target}:1: {SOURCE} has changed: run `cargo xtask contract`")
    }))
}

/// The texts of the generated files.
struct Generated {
    functions: String,
    layouts: String,
}

impl Generated {
    /// The path of each file, and its text.
    fn files(&self) -> [(&'static str, &str); 2] {
        [(FUNCTIONS, &*self.functions), (LAYOUTS, &*self.layouts)]
    }
}

fn read(workspace: &Workspace, path: &str) -> Result<String> {
    fs::read_to_string(workspace.root.join(path)).with_context(|| format!("reading {path}"))
}

/// A text without what rustfmt decides: white space, and the commas behind last elements.
fn essence(text: &str) -> String {
    let is_content = |character: &char| !character.is_whitespace() && *character != ',';
    text.chars().filter(is_content).collect()
}

/// The texts of the generated files, before rustfmt has seen them.
fn generate(wit: &str) -> Result<Generated> {
    let contract = Contract::parse(wit)?;
    let functions = contract.functions()?;
    let layouts = layout::layouts(&contract)?;
    let Contract {
        package, version, ..
    } = &contract;
    let mark = format!(
        "//! @generated from `{SOURCE}` by `cargo xtask contract`. `cargo xtask tidy` fails if it is edited by hand."
    );
    let functions = format!(
        r#"{mark}

use super::{{Function, Shape}};
use wasmparser::ValType::{{I32, I64}};

/// The contract's package, as it stands in import names.
pub(crate) const PACKAGE: &str = "{package}/";
/// The package's version.
pub(crate) const VERSION: &str = "{version}";

/// Every function of the contract.
pub(crate) const FUNCTIONS: &[Function] = &[{functions}];
"#
    );
    let layouts = format!(
        r#"{mark}
//!
//! Sizes, offsets and the numbers of cases, as the canonical ABI lays values out in memory.
//!
//! A type's module has its size in bytes, its alignment, and both as a `Layout`. A record has the offset of each field
//! beside that, a variant the number of each case and the offset `VALUE` of its content, flags a bit each.

#![allow(dead_code, reason = "the host does not read or write every type by hand")]

{layouts}
"#
    );
    Ok(Generated { functions, layouts })
}

/// The contract, read.
struct Contract {
    resolve: Resolve,
    sizes: SizeAlign,
    /// Namespace and name of its package.
    package: String,
    version: String,
}

impl Contract {
    fn parse(wit: &str) -> Result<Self> {
        let mut resolve = Resolve::default();
        let package = resolve
            .push_str(SOURCE, wit)
            .with_context(|| format!("reading {SOURCE}"))?;
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let name = &resolve.packages[package].name;
        let version = name.version.as_ref();
        let version = version.with_context(|| format!("{SOURCE}: the package has no version"))?;
        Ok(Self {
            package: format!("{}:{}", name.namespace, name.name),
            version: version.to_string(),
            resolve,
            sizes,
        })
    }

    /// The elements of the table of functions.
    fn functions(&self) -> Result<String> {
        let mut text = String::new();
        let mut at_once = 0;
        for (_, interface) in &self.resolve.interfaces {
            let Some(interface_name) = &interface.name else {
                continue;
            };
            for (name, function) in &interface.functions {
                let is_at_once = ANSWER_AT_ONCE.contains(&(interface_name, name));
                at_once += usize::from(is_at_once);
                let element = self
                    .function(interface_name, function, is_at_once)
                    .with_context(|| format!("`{interface_name}.{name}`"))?;
                text.push_str(&element);
            }
        }
        if at_once != ANSWER_AT_ONCE.len() {
            bail!("ANSWER_AT_ONCE names a function that {SOURCE} does not have");
        }
        Ok(text)
    }

    fn function(&self, interface: &str, function: &Function, is_at_once: bool) -> Result<String> {
        let signature = (self.resolve).wasm_signature(AbiVariant::GuestImport, function);
        let shape = self.shape(function, is_at_once)?;
        // A result that is written to memory is none in core wasm.
        let result = function.result.filter(|_| !signature.results.is_empty());
        if !is_at_once && result.is_some_and(|ty| self.may_be_negative(ty)) {
            bail!("its result could look like the answer \"ask again\"");
        }
        let mut text = String::new();
        writeln!(text, "Function {{")?;
        writeln!(
            text,
            "interface: \"{}/{interface}@{}\",",
            self.package, self.version
        )?;
        writeln!(text, "name: \"{}\",", function.name)?;
        writeln!(text, "params: &[{}],", core_types(&signature.params)?)?;
        writeln!(text, "results: &[{}],", core_types(&signature.results)?)?;
        writeln!(text, "shape: Shape::{shape},")?;
        writeln!(text, "}},")?;
        Ok(text)
    }

    /// How the host carries a function out, as far as it follows from the type of its result.
    fn shape(&self, function: &Function, is_at_once: bool) -> Result<String> {
        let leaves_lists = function.result.is_some_and(|ty| self.holds_lists(ty));
        if is_at_once {
            if leaves_lists {
                bail!("it returns lists, so it can't answer at once: see ANSWER_AT_ONCE");
            }
            return Ok("Direct".to_owned());
        }
        let payloads = function.result.map(|ty| self.payloads(ty));
        match *payloads.unwrap_or_default() {
            [] if leaves_lists => Ok("RetryThenLists".to_owned()),
            [] => Ok("Retry".to_owned()),
            [offset] => Ok(format!("RetryThenPayload({offset})")),
            _ => bail!("its result can hold a message in several places: which comes first?"),
        }
    }

    /// May a value be negative as the i32 that a core function returns, or not fit into one? A function that has to be asked
    /// again answers with a negative number, and with its result otherwise.
    fn may_be_negative(&self, ty: Type) -> bool {
        match ty {
            Type::Bool | Type::U8 | Type::U16 | Type::Char => false,
            Type::Id(id) => match &self.resolve.types[id].kind {
                TypeDefKind::Enum(_) => false,
                TypeDefKind::Flags(flags) => flags.flags.len() > 16,
                kind => parts(kind).into_iter().any(|ty| self.may_be_negative(ty)),
            },
            _ => true,
        }
    }

    /// Does a value of this type have parts that lie elsewhere, where the guest makes room for them?
    fn holds_lists(&self, ty: Type) -> bool {
        match ty {
            Type::String => true,
            Type::Id(id) => match &self.resolve.types[id].kind {
                TypeDefKind::List(_) => true,
                kind => parts(kind).into_iter().any(|part| self.holds_lists(part)),
            },
            _ => false,
        }
    }

    /// How far from the start of a value of this type the payload of a message lies: every place where there can be one.
    fn payloads(&self, ty: Type) -> Vec<usize> {
        let Type::Id(id) = ty else {
            return Vec::new();
        };
        let definition = &self.resolve.types[id];
        if let (Some(MESSAGE), TypeDefKind::Record(record)) =
            (definition.name.as_deref(), &definition.kind)
        {
            let types = record.fields.iter().map(|field| &field.ty);
            let offsets = self.sizes.field_offsets(types).into_iter();
            let named = offsets.zip(&record.fields);
            return named
                .filter(|(_, field)| field.name == PAYLOAD)
                .map(|((offset, _), _)| offset.size_wasm32())
                .collect();
        }
        let offsets = self.part_offsets(&definition.kind).into_iter();
        offsets
            .flat_map(|(offset, part)| {
                let within = self.payloads(part).into_iter();
                within.map(move |payload| offset + payload)
            })
            .collect()
    }

    /// The types that a value is made of, and how far from its start each lies.
    fn part_offsets(&self, kind: &TypeDefKind) -> Vec<(usize, Type)> {
        let types = parts(kind);
        match kind {
            TypeDefKind::Record(_) | TypeDefKind::Tuple(_) => {
                let offsets = self.sizes.field_offsets(&types).into_iter();
                offsets
                    .map(|(offset, ty)| (offset.size_wasm32(), *ty))
                    .collect()
            }
            TypeDefKind::Type(ty) => vec![(0, *ty)],
            _ => {
                let offset = layout::value_offset(self, kind);
                types.into_iter().map(|ty| (offset, ty)).collect()
            }
        }
    }
}

/// The types of fields, of cases, or of what an alias names; none of a list, whose elements lie elsewhere.
fn parts(kind: &TypeDefKind) -> Vec<Type> {
    match kind {
        TypeDefKind::Type(ty) | TypeDefKind::Option(ty) => vec![*ty],
        TypeDefKind::Record(record) => record.fields.iter().map(|field| field.ty).collect(),
        TypeDefKind::Tuple(tuple) => tuple.types.clone(),
        TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty).collect(),
        TypeDefKind::Result(result) => [result.ok, result.err].into_iter().flatten().collect(),
        _ => Vec::new(),
    }
}

fn core_types(types: &[WasmType]) -> Result<String> {
    let names = types.iter().map(|ty| match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => Ok("I32"),
        WasmType::I64 | WasmType::PointerOrI64 => Ok("I64"),
        WasmType::F32 | WasmType::F64 => bail!("the rewriter's glue passes no floats on"),
    });
    Ok(names.collect::<Result<Vec<_>>>()?.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = include_str!("../../../wit/process.wit");

    /// The generated text of the contract in which something is replaced.
    fn changed(from: &str, to: &str) -> Result<String> {
        assert_eq!(WIT.matches(from).count(), 1, "{from}");
        whole(&WIT.replace(from, to))
    }

    /// Both files in one text.
    fn whole(wit: &str) -> Result<String> {
        let Generated { functions, layouts } = generate(wit)?;
        Ok(functions + &layouts)
    }

    fn error(from: &str, to: &str) -> String {
        let generated = changed(from, to);
        format!("{:#}", generated.expect_err("the contract can't be linked"))
    }

    /// The constants of a type's module, without the size and the alignment.
    fn constants<'a>(text: &'a str, module: &str) -> Vec<&'a str> {
        let (_, behind) = text
            .split_once(&format!("mod {module} {{"))
            .expect("the type has a module");
        let lines = behind.lines().map(str::trim);
        lines
            .take_while(|line| *line != "}")
            .filter_map(|line| line.strip_prefix("pub(crate) const "))
            .skip(3)
            .collect()
    }

    #[test]
    fn the_generated_file_is_that_of_the_contract() {
        let checked_in = Generated {
            functions: include_str!("../../../host/src/abi/contract.rs").to_owned(),
            layouts: include_str!("../../../host/src/abi/layout.rs").to_owned(),
        };
        let breach = |wit: &str| breach_of(wit, &checked_in).expect("the contract can be linked");
        assert_eq!(breach(WIT), None);
        let changed = WIT.replace("        trap-exit: bool,\n", "        trap-exit: u64,\n");
        let breach = breach(&changed).expect("the file is of another contract");
        assert!(breach.contains("run `cargo xtask contract`"), "{breach}");
    }

    #[test]
    fn a_changed_contract_gives_another_file() {
        let before = whole(WIT).expect("the contract can be linked");
        for (from, to) in [
            // A signature, a field, a case, the version.
            (
                "is-alive: func(process: pid)",
                "is-alive: func(process: u32)",
            ),
            ("        trap-exit: bool,\n", "        trap-exit: u64,\n"),
            ("        kill,\n", "        kill,\n        crashed,\n"),
            ("atoll-rt:process@0.2.0", "atoll-rt:process@0.2.1"),
        ] {
            let after = changed(from, to).expect("the contract can be linked");
            assert_ne!(essence(&before), essence(&after), "{to}");
        }
        // A comment is not part of it.
        let after = changed("OTP: `self/0`.", "OTP: `erlang:self/0`.");
        assert_eq!(before, after.expect("the contract can be linked"));
    }

    #[test]
    fn what_rustfmt_decides_is_not_compared() {
        assert_eq!(
            essence("a(&[I32, I64])"),
            essence("a(\n    &[\n I32,\n I64,\n])")
        );
        assert_ne!(essence("a(&[I32, I64])"), essence("a(&[I64, I32])"));
    }

    #[test]
    fn offsets_and_cases_are_those_of_the_canonical_abi() {
        let text = whole(WIT).expect("the contract can be linked");
        let check = |module: &str, expected: &[&str]| {
            assert_eq!(constants(&text, module), expected, "{module}");
        };
        check(
            "message",
            &[
                "SENDER: usize = 0;",
                "TAG: usize = 16;",
                "REFERENCE: usize = 24;",
                "FORMAT: usize = 48;",
                "PAYLOAD: usize = 52;",
            ],
        );
        check(
            "priority",
            &["LOW: u32 = 0;", "NORMAL: u32 = 1;", "HIGH: u32 = 2;"],
        );
        check(
            "call_error",
            &[
                "TIMEOUT: u32 = 0;",
                "DOWN: u32 = 1;",
                "FULL: u32 = 2;",
                "VALUE: usize = 4;",
            ],
        );
        check("option_pid", &["VALUE: usize = 8;"]);
        check("result_unit_join_error", &["VALUE: usize = 1;"]);
        assert!(constants(&text, "event_kinds").contains(&"GROUP: u8 = 16;"));
    }

    /// By far the most functions need no word in the generator.
    #[test]
    fn a_new_function_has_its_shape_from_its_result() {
        let shape = |signature: &str| {
            let from = "    self: func() -> pid;\n";
            let to = format!("{from}    added: func{signature};\n");
            let text = changed(from, &to)?;
            let (_, behind) = text.split_once("\"added\"").expect("it is in the table");
            let (_, behind) = behind.split_once("Shape::").expect("it has a shape");
            Ok::<_, anyhow::Error>(behind.split(",\n").next().unwrap_or_default().to_owned())
        };
        for (signature, expected) in [
            ("()", "Retry"),
            ("(name: string) -> bool", "Retry"),
            ("() -> option<u64>", "Retry"),
            ("() -> list<pid>", "RetryThenLists"),
            ("() -> exit-reason", "RetryThenLists"),
        ] {
            assert_eq!(
                shape(signature).expect("it can be linked"),
                expected,
                "{signature}"
            );
        }
        for signature in ["() -> u32", "() -> u64", "(seconds: f64)"] {
            assert!(shape(signature).is_err(), "{signature}");
        }
    }

    #[test]
    fn a_contract_that_the_host_can_not_link_is_an_error() {
        let renamed = error("    self: func() -> pid;", "    me: func() -> pid;");
        assert!(renamed.contains("ANSWER_AT_ONCE"), "{renamed}");
        let lists = error("    self: func() -> pid;", "    self: func() -> list<pid>;");
        assert!(lists.contains("ANSWER_AT_ONCE"), "{lists}");
        let twice = error("enum join-error {", "enum status { a } enum join-error {");
        assert!(twice.contains("called `status`"), "{twice}");
        let bytes = error("        trap-exit: bool,", "        bytes: bool,");
        assert!(bytes.contains("called `BYTES`"), "{bytes}");
    }
}
