//! The layouts of the contract's types: a module of constants for each, as text.
//!
//! A module is called after its type. `option<event>` is `option_event`, and `result<_, join-error>` is
//! `result_unit_join_error`. The numbers are written for a 32-bit memory.

use std::fmt::Write;

use anyhow::{Result, bail};
use wit_parser::{FlagsRepr, Int, SizeAlign, Type, TypeDefKind, TypeId};

use super::Contract;

/// The modules that no type of the contract has: what holds for every list, option and result.
const GENERIC: &str = "use crate::abi::Layout;

/// Every `list` and `string`: where its elements lie, and how many they are.
pub(crate) mod list {
    use super::Layout;
    pub(crate) const BYTES: usize = 8;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const POINTER: usize = 0;
    pub(crate) const LENGTH: usize = 4;
}

/// The cases of every `option`.
pub(crate) mod option {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const SOME: u32 = 1;
}

/// The cases of every `result`.
pub(crate) mod result {
    pub(crate) const OK: u32 = 0;
    pub(crate) const ERROR: u32 = 1;
}
";

/// The modules of all types, in the order of the contract.
pub(super) fn layouts(contract: &Contract) -> Result<String> {
    let mut modules: Vec<Module> = Vec::new();
    for (id, _) in &contract.resolve.types {
        let Some(module) = module(contract, id)? else {
            continue;
        };
        match modules.iter().find(|other| other.name == module.name) {
            None => modules.push(module),
            // Interfaces that use a type each have its options and results.
            Some(other) if *other == module => {}
            Some(_) => bail!("two types of the contract are called `{}`", module.name),
        }
    }
    let mut text = GENERIC.to_owned();
    for module in modules {
        text.push_str(&module.text()?);
    }
    Ok(text)
}

/// The offset of what the cases of a variant, an option or a result carry.
pub(super) fn value_offset(contract: &Contract, kind: &TypeDefKind) -> usize {
    let (tag, cases) = match kind {
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| case.ty).collect();
            (variant.tag(), cases)
        }
        TypeDefKind::Option(ty) => (Int::U8, vec![None, Some(*ty)]),
        TypeDefKind::Result(result) => (Int::U8, vec![result.ok, result.err]),
        _ => return 0,
    };
    let cases = cases.iter().map(Option::as_ref);
    contract.sizes.payload_offset(tag, cases).size_wasm32()
}

/// The facts about one type.
#[derive(PartialEq, Eq)]
struct Module {
    name: String,
    documentation: String,
    bytes: usize,
    alignment: usize,
    constants: Vec<Constant>,
}

/// A constant's name, its type, and its value.
#[derive(PartialEq, Eq)]
struct Constant(String, &'static str, usize);

impl Module {
    fn text(&self) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "\n/// {}", self.documentation)?;
        writeln!(text, "pub(crate) mod {} {{", self.name)?;
        writeln!(text, "use super::Layout;")?;
        writeln!(text, "pub(crate) const BYTES: usize = {};", self.bytes)?;
        writeln!(
            text,
            "pub(crate) const ALIGNMENT: u32 = {};",
            self.alignment
        )?;
        writeln!(
            text,
            "pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;"
        )?;
        let mut names = vec!["BYTES", "ALIGNMENT", "LAYOUT"];
        for Constant(name, ty, value) in &self.constants {
            if names.contains(&&**name) {
                bail!("`{}`: two constants would be called `{name}`", self.name);
            }
            names.push(name);
            writeln!(text, "pub(crate) const {name}: {ty} = {value};")?;
        }
        writeln!(text, "}}")?;
        Ok(text)
    }
}

/// The module of a type; none if it has no layout of its own, as aliases and lists.
fn module(contract: &Contract, id: TypeId) -> Result<Option<Module>> {
    let kind = &contract.resolve.types[id].kind;
    let spelled = spelled(contract, Type::Id(id));
    let value = || Constant("VALUE".to_owned(), "usize", value_offset(contract, kind));
    let (keyword, constants) = match kind {
        TypeDefKind::Type(_) | TypeDefKind::List(_) => return Ok(None),
        TypeDefKind::Record(record) => {
            let names = record.fields.iter().map(|field| &*field.name);
            let offsets = contract.part_offsets(kind).into_iter();
            let constants = names
                .zip(offsets)
                .map(|(name, (offset, _))| Constant(constant_name(name), "usize", offset));
            ("record", constants.collect())
        }
        TypeDefKind::Variant(variant) => {
            check_tag(variant.tag(), &spelled)?;
            let names = variant.cases.iter().map(|case| &*case.name);
            ("variant", cases(names).chain([value()]).collect())
        }
        TypeDefKind::Enum(numbers) => {
            check_tag(numbers.tag(), &spelled)?;
            let names = numbers.cases.iter().map(|case| &*case.name);
            ("enum", cases(names).collect())
        }
        TypeDefKind::Flags(flags) => {
            let ty = match flags.repr() {
                FlagsRepr::U8 => "u8",
                FlagsRepr::U16 => "u16",
                FlagsRepr::U32(1) => "u32",
                FlagsRepr::U32(_) => bail!("more flags than 32 are not known here"),
            };
            let bits = flags.flags.iter().enumerate();
            let constants =
                bits.map(|(bit, flag)| Constant(constant_name(&flag.name), ty, 1 << bit));
            ("flags", constants.collect())
        }
        TypeDefKind::Option(_) => ("", vec![value()]),
        TypeDefKind::Result(_) => ("", vec![value()]),
        other => bail!("types like {} are not known here", other.as_str()),
    };
    let ty = Type::Id(id);
    let sizes: &SizeAlign = &contract.sizes;
    Ok(Some(Module {
        name: module_name(&spelled),
        documentation: format!("`{}`", format!("{keyword} {spelled}").trim_start()),
        bytes: sizes.size(&ty).size_wasm32(),
        alignment: sizes.align(&ty).align_wasm32(),
        constants,
    }))
}

fn cases<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Constant> {
    let numbered = names.enumerate();
    numbered.map(|(number, name)| Constant(constant_name(name), "u32", number))
}

/// The host writes the number of a case as one byte.
fn check_tag(tag: Int, spelled: &str) -> Result<()> {
    if tag != Int::U8 {
        bail!("`{spelled}` has more than 256 cases, whose numbers take more than one byte");
    }
    Ok(())
}

fn constant_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// A type as WIT spells it, without the other names that interfaces may use it by.
fn spelled(contract: &Contract, ty: Type) -> String {
    let of = |ty: &Option<Type>| ty.map_or("_".to_owned(), |ty| spelled(contract, ty));
    let Type::Id(id) = ty else {
        return format!("{ty:?}").to_lowercase();
    };
    let definition = &contract.resolve.types[id];
    match (&definition.name, &definition.kind) {
        (_, TypeDefKind::Type(named @ Type::Id(_))) => spelled(contract, *named),
        (Some(own), _) => own.clone(),
        (None, TypeDefKind::Option(ty)) => format!("option<{}>", spelled(contract, *ty)),
        (None, TypeDefKind::List(ty)) => format!("list<{}>", spelled(contract, *ty)),
        (None, TypeDefKind::Result(result)) => {
            format!("result<{}, {}>", of(&result.ok), of(&result.err))
        }
        (None, kind) => kind.as_str().to_owned(),
    }
}

/// The name of a type's module.
fn module_name(spelled: &str) -> String {
    let words = spelled.replace("<_,", "<unit,").replace(", _>", ", unit>");
    let words = words.replace(", ", "_").replace(['<', '-'], "_");
    words.replace('>', "")
}
