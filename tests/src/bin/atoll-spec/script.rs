//! A file of the suite, as a list of checks that own their data.
//!
//! [`parse`] resolves the file's names: each check says which instance it is about, and each instance which others it
//! imports from. Nothing here runs anything.

use crate::values::{Expected, argument, expected};
use anyhow::{Result, anyhow};
use atoll_rt::harness::Value;
use atoll_tests::wasm::pure_function;
use std::collections::HashMap;
use wasmparser::{Parser, Payload};
use wast::lexer::Lexer;
use wast::parser::{self, ParseBuffer};
use wast::token::{Id, Span};
use wast::{QuoteWat, QuoteWatTest, Wast, WastDirective, WastExecute, WastInvoke};

/// One file.
#[derive(Debug, Default)]
pub struct Script {
    pub instances: Vec<Instance>,
    pub checks: Vec<Check>,
}

/// An instance that the file makes, or that it expects not to be made.
#[derive(Debug)]
pub struct Instance {
    /// The module's binary.
    pub module: Vec<u8>,
    /// The modules that it imports from, and the instances registered under these names.
    pub links: Vec<(String, usize)>,
    /// The indexes of instances among them whose state it can't see: it imports functions that return constants.
    pub pure_links: Vec<usize>,
    pub imports_spectest: bool,
}

/// A directive of the file.
#[derive(Debug)]
pub struct Check {
    pub line: usize,
    pub kind: CheckKind,
}

#[derive(Debug)]
pub enum CheckKind {
    /// The loader accepts these bytes.
    Accepts(Vec<u8>),
    /// The loader refuses these bytes, a binary or a text.
    Refuses(Vec<u8>),
    /// The instance is made.
    Makes(usize),
    /// Making the instance traps.
    TrapsAtStart(usize, String),
    /// The instance can't be linked.
    Unlinkable(usize),
    Acts(usize, Action, Verdict),
    /// The check can't be made, for this reason.
    LeftOut(&'static str),
}

#[derive(Debug)]
pub enum Action {
    Call(String, Vec<Value>),
    Global(String),
}

/// The demand on the result of an action.
#[derive(Debug)]
pub enum Verdict {
    /// It has a result, whatever it is.
    Returns,
    ReturnsThese(Vec<Expected>),
    Traps(String),
}

impl CheckKind {
    /// The instance that the check is about.
    pub fn instance(&self) -> Option<usize> {
        match self {
            CheckKind::Makes(instance)
            | CheckKind::TrapsAtStart(instance, _)
            | CheckKind::Unlinkable(instance)
            | CheckKind::Acts(instance, ..) => Some(*instance),
            CheckKind::Accepts(_) | CheckKind::Refuses(_) | CheckKind::LeftOut(_) => None,
        }
    }
}

/// Parses a file.
pub fn parse(text: &str) -> Result<Script> {
    let mut lexer = Lexer::new(text);
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer)?;
    let file = parser::parse::<Wast<'_>>(&buffer)?;
    let mut reader = Reader::default();
    for directive in file.directives {
        let line = line(directive.span(), text);
        let kind = reader
            .directive(directive)
            .map_err(|error| anyhow!("line {line}: {error}"))?;
        if let Some(kind) = kind {
            reader.script.checks.push(Check { line, kind });
        }
    }
    Ok(reader.script)
}

fn line(span: Span, text: &str) -> usize {
    span.linecol_in(text).0 + 1
}

/// The names that the directives so far have given.
#[derive(Default)]
struct Reader {
    script: Script,
    /// The last instance.
    current: Option<usize>,
    named: HashMap<String, usize>,
    registered: HashMap<String, usize>,
    last_definition: Vec<u8>,
    definitions: HashMap<String, Vec<u8>>,
}

impl Reader {
    /// Reads a directive. Returns none if it only gives a name.
    fn directive(&mut self, directive: WastDirective<'_>) -> Result<Option<CheckKind>> {
        Ok(Some(match directive {
            WastDirective::Module(mut module) => {
                let name = module.name();
                let bytes = module.encode()?;
                CheckKind::Makes(self.makes(bytes, name))
            }
            WastDirective::ModuleDefinition(mut module) => {
                self.last_definition = module.encode()?;
                if let Some(name) = module.name() {
                    let definition = self.last_definition.clone();
                    self.definitions.insert(name.name().to_owned(), definition);
                }
                CheckKind::Accepts(self.last_definition.clone())
            }
            WastDirective::ModuleInstance {
                instance, module, ..
            } => {
                let definition = module.and_then(|module| self.definitions.get(module.name()));
                let bytes = definition.unwrap_or(&self.last_definition).clone();
                CheckKind::Makes(self.makes(bytes, instance))
            }
            WastDirective::Register { name, module, .. } => {
                let instance = self.instance(module)?;
                self.registered.insert(name.to_owned(), instance);
                return Ok(None);
            }
            WastDirective::AssertMalformed { module, .. }
            | WastDirective::AssertInvalid { module, .. } => refuses(module),
            WastDirective::AssertMalformedCustom { .. }
            | WastDirective::AssertInvalidCustom { .. } => {
                CheckKind::LeftOut("the loader drops custom sections and does not check them")
            }
            WastDirective::AssertUnlinkable { mut module, .. } => {
                CheckKind::Unlinkable(self.instance_of(module.encode()?))
            }
            WastDirective::Invoke(invoke) => {
                self.acts(WastExecute::Invoke(invoke), || Some(Verdict::Returns))?
            }
            WastDirective::AssertReturn { exec, results, .. } => self.acts(exec, || {
                let results: Option<_> = results.iter().map(expected).collect();
                results.map(Verdict::ReturnsThese)
            })?,
            WastDirective::AssertTrap { exec, message, .. } => match exec {
                WastExecute::Wat(mut module) => {
                    CheckKind::TrapsAtStart(self.instance_of(module.encode()?), message.to_owned())
                }
                exec => self.acts(exec, || Some(Verdict::Traps(message.to_owned())))?,
            },
            WastDirective::AssertExhaustion { call, message, .. } => self
                .acts(WastExecute::Invoke(call), || {
                    Some(Verdict::Traps(message.to_owned()))
                })?,
            WastDirective::AssertException { .. } => CheckKind::LeftOut("exceptions are off"),
            WastDirective::AssertSuspension { .. } => CheckKind::LeftOut("stack switching is off"),
            WastDirective::Thread(_) | WastDirective::Wait { .. } => {
                CheckKind::LeftOut("threads are off")
            }
        }))
    }

    /// Adds an instance, which later directives mean unless they name another.
    fn makes(&mut self, module: Vec<u8>, name: Option<Id<'_>>) -> usize {
        let instance = self.instance_of(module);
        self.current = Some(instance);
        if let Some(name) = name {
            self.named.insert(name.name().to_owned(), instance);
        }
        instance
    }

    fn instance_of(&mut self, module: Vec<u8>) -> usize {
        let imports = imports(&module);
        let mut links: Vec<(String, usize)> = Vec::new();
        for (name, _) in &imports {
            if let Some(instance) = self.registered.get(name)
                && !links.iter().any(|(known, _)| known == name)
            {
                links.push((name.clone(), *instance));
            }
        }
        let is_pure = |(name, instance): &&(String, usize)| {
            let other = &self.script.instances[*instance].module;
            let mut of_link = imports.iter().filter(|(module, _)| module == name);
            of_link.all(|(_, name)| pure_function(other, name).is_some())
        };
        let pure_links = links.iter().filter(is_pure);
        let pure_links = pure_links.map(|(_, instance)| *instance).collect();
        self.script.instances.push(Instance {
            links,
            pure_links,
            imports_spectest: imports.iter().any(|(name, _)| name == "spectest"),
            module,
        });
        self.script.instances.len() - 1
    }

    fn instance(&self, name: Option<Id<'_>>) -> Result<usize> {
        let instance = match name {
            Some(name) => self.named.get(name.name()).copied(),
            None => self.current,
        };
        instance.ok_or_else(|| anyhow!("there is no instance"))
    }

    fn acts(
        &self,
        execute: WastExecute<'_>,
        verdict: impl FnOnce() -> Option<Verdict>,
    ) -> Result<CheckKind> {
        let (module, action) = match execute {
            WastExecute::Invoke(WastInvoke {
                module, name, args, ..
            }) => {
                let arguments: Option<Vec<Value>> = args.iter().map(argument).collect();
                let call = arguments.map(|arguments| Action::Call(name.to_owned(), arguments));
                (module, call)
            }
            WastExecute::Get { module, global, .. } => {
                (module, Some(Action::Global(global.to_owned())))
            }
            WastExecute::Wat(_) => return Ok(CheckKind::LeftOut("it calls a module")),
        };
        match (action, verdict()) {
            (Some(action), Some(verdict)) => {
                Ok(CheckKind::Acts(self.instance(module)?, action, verdict))
            }
            _ => Ok(CheckKind::LeftOut("it has values of a type that is off")),
        }
    }
}

/// The loader has to refuse the module. A module that this crate's own parser can't encode goes as text.
fn refuses(mut module: QuoteWat<'_>) -> CheckKind {
    match module.to_test() {
        Ok(QuoteWatTest::Binary(bytes) | QuoteWatTest::Text(bytes)) => CheckKind::Refuses(bytes),
        Err(_) => CheckKind::LeftOut("the parser of the suite's language refuses it first"),
    }
}

/// The names of a module's imports: module and field.
fn imports(bytes: &[u8]) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(Payload::ImportSection(section)) = payload else {
            continue;
        };
        let imports = section.into_imports().flatten();
        names.extend(imports.map(|import| (import.module.to_owned(), import.name.to_owned())));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved() {
        let script = parse(
            r#"(module $a (func (export "f")))
               (register "a" $a)
               (module (import "a" "f" (func)) (import "spectest" "print" (func)))
               (assert_trap (invoke $a "f") "unreachable")
               (invoke "g")
               (assert_malformed (module quote "(func") "unexpected token")"#,
        )
        .expect("the file is well-formed");
        assert_eq!(script.instances[1].links, [("a".to_owned(), 0)]);
        assert!(script.instances[1].imports_spectest);
        let instances: Vec<_> = script
            .checks
            .iter()
            .map(|check| check.kind.instance())
            .collect();
        assert_eq!(instances, [Some(0), Some(1), Some(0), Some(1), None]);
        assert_eq!(script.checks[4].line, 6);
    }
}
