//! Runs the checks of a file on one path with one slice.
//!
//! On the flattened path each instance is a process of its own, so only modules that import nothing but parts of
//! `spectest` can run there. Each script runs as often as it takes for an instance to be used again. On the component
//! path a process holds all instances that are linked with one another.

use crate::script::{Action, Check, CheckKind, Instance, Script, Verdict};
use crate::values::is_trap;
use anyhow::Result;
use atoll_rt::harness::{Harness, Outcome, Scriptable, Step};
use atoll_rt::{LoadError, LoadErrorKind};
use atoll_tests::wasm::{SPECTEST, component_of, pure_function, with_definitions, with_entry};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// So many processes of a program use one another's instances: the host restores eight together.
const RUNS: usize = 9;
/// The most instances of one process, with `spectest`.
const INSTANCES_MAX: usize = 60;

/// The loader's words for a panic of the compiler.
const COMPILER_FAILS: &str = "the compiler has failed";

/// A module without anything: the loader would unwrap a component with one module.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

/// The two ways to run a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    Flattened,
    Component,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Flattened => "flattened",
            Path::Component => "component",
        })
    }
}

/// The result of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    Passed,
    Failed(String),
    LeftOut(String),
}

/// Runs all checks that are about instances. The result has a finding for each of the file's checks that was made.
pub fn run(script: &Script, harness: &Harness, path: Path) -> Vec<(usize, Finding)> {
    let mut findings = Vec::new();
    for group in groups(script, path) {
        findings.extend(match path {
            Path::Flattened => group
                .iter()
                .flat_map(|instance| flattened(script, harness, *instance, group.len()))
                .collect(),
            Path::Component => component(script, harness, &group),
        });
    }
    findings
}

/// Runs the checks that only load, which no slice and no path changes.
pub fn load(script: &Script, harness: &Harness) -> Vec<(usize, Finding)> {
    let indexed = script.checks.iter().enumerate();
    indexed
        .filter_map(|(index, check)| {
            let finding = match &check.kind {
                CheckKind::Refuses(bytes) => match verdict_of_loader(harness, bytes) {
                    Loaded::Accepted => Finding::Failed("it is loaded".to_owned()),
                    Loaded::Refused(_) | Loaded::IsOff(_) => Finding::Passed,
                },
                CheckKind::Accepts(bytes) => match verdict_of_loader(harness, bytes) {
                    Loaded::Accepted => Finding::Passed,
                    Loaded::Refused(text) => Finding::Failed(text),
                    Loaded::IsOff(text) => Finding::LeftOut(text),
                },
                CheckKind::LeftOut(why) => Finding::LeftOut((*why).to_owned()),
                _ => return None,
            };
            Some((index, finding))
        })
        .collect()
}

enum Loaded {
    Accepted,
    /// It is not valid, for this reason.
    Refused(String),
    /// It uses a proposal that is off, or can't be loaded for another reason that is no fault.
    IsOff(String),
}

fn verdict_of_loader(harness: &Harness, bytes: &[u8]) -> Loaded {
    match harness.load(bytes).map(|_| ()) {
        Ok(()) => Loaded::Accepted,
        Err(error) => match (error.kind(), reason(&error)) {
            // The module is valid, but no program.
            (LoadErrorKind::NoEntry | LoadErrorKind::UnknownImport, _) => Loaded::Accepted,
            (_, Some(reason)) => Loaded::IsOff(reason),
            (_, None) => Loaded::Refused(error.to_string()),
        },
    }
}

/// The reason for leaving out a module that can't be loaded, without the place in the module. None if it has to be loaded.
fn reason(error: &LoadError) -> Option<String> {
    let text = error.to_string();
    match error.kind() {
        LoadErrorKind::Unsupported => {
            let text = text.split(" (at offset").next().unwrap_or_default();
            Some(text.replace("the module uses a proposal that is off here", "off"))
        }
        LoadErrorKind::Compile if text.contains(COMPILER_FAILS) => Some(
            "wasmtime's compiler can't export modules with typed references from a component"
                .to_owned(),
        ),
        LoadErrorKind::Invalid if text.contains("duplicate import name") => {
            Some("a component can't hold a module that imports a name twice".to_owned())
        }
        _ => None,
    }
}

/// The instances that are linked with one another, directly or not. On the flattened path, links through which no state
/// is seen do not count.
fn groups(script: &Script, path: Path) -> Vec<Vec<usize>> {
    let mut group_of: Vec<usize> = (0..script.instances.len()).collect();
    for (index, instance) in script.instances.iter().enumerate() {
        for (_, other) in &instance.links {
            if path == Path::Flattened && instance.pure_links.contains(other) {
                continue;
            }
            let (from, to) = (group_of[index], group_of[*other]);
            for group in &mut group_of {
                if *group == from {
                    *group = to;
                }
            }
        }
    }
    let names: BTreeSet<usize> = group_of.iter().copied().collect();
    let members = |name: usize| {
        let indexed = group_of.iter().enumerate();
        indexed
            .filter(move |(_, group)| **group == name)
            .map(|(index, _)| index)
            .collect()
    };
    names.into_iter().map(members).collect()
}

/// The checks about these instances, with their indexes.
fn checks_of<'a>(script: &'a Script, instances: &[usize]) -> Vec<(usize, &'a Check)> {
    let indexed = script.checks.iter().enumerate();
    let about = indexed.filter(|(_, check)| {
        let instance = check.kind.instance();
        instance.is_some_and(|instance| instances.contains(&instance))
    });
    about.collect()
}

/// The same finding for each check.
fn all(checks: &[(usize, &Check)], finding: &Finding) -> Vec<(usize, Finding)> {
    let each = checks.iter().map(|(index, _)| (*index, finding.clone()));
    each.collect()
}

fn flattened(
    script: &Script,
    harness: &Harness,
    instance: usize,
    linked: usize,
) -> Vec<(usize, Finding)> {
    let checks = checks_of(script, &[instance]);
    let left_out = |why: String| all(&checks, &Finding::LeftOut(why));
    if linked > 1 {
        return left_out("a process on the flattened path has one instance".to_owned());
    }
    if let [(_, check)] = &*checks
        && let CheckKind::Unlinkable(_) = check.kind
    {
        return left_out("modules on the flattened path import the contract only".to_owned());
    }
    let module = &script.instances[instance].module;
    let (bytes, entry) = match runnable(script, instance) {
        Ok(prepared) => prepared,
        Err(error) => {
            return left_out(match verdict_of_loader(harness, module) {
                Loaded::IsOff(text) => text,
                _ => format!("the flattened path can't run it: {error}"),
            });
        }
    };
    let program = match harness.load(&bytes) {
        Ok(program) => program,
        Err(error) => return all(&checks, &refused(&error)),
    };
    let make = Step::Instantiate {
        export: entry.to_owned(),
        links: Vec::new(),
    };
    let step = |check: &Check| step(check, 0).unwrap_or_else(|| make.clone());
    let steps: Arc<[Step]> = checks.iter().map(|(_, check)| step(check)).collect();
    compare(harness, &program, &steps, &checks, RUNS)
}

/// The finding about checks whose module is not loaded.
fn refused(error: &LoadError) -> Finding {
    match reason(error) {
        Some(reason) => Finding::LeftOut(reason),
        None => Finding::Failed(error.to_string()),
    }
}

/// The instance's module in the form that the flattened path runs, and the name of its entry.
fn runnable(script: &Script, instance: usize) -> Result<(Vec<u8>, &'static str)> {
    let Instance { module, links, .. } = &script.instances[instance];
    let imports = wasmparser::Parser::new(0).parse_all(module).any(|payload| {
        matches!(payload, Ok(wasmparser::Payload::ImportSection(section)) if section.count() > 0)
    });
    let pure = |module: &str, name: &str| {
        let (_, other) = links.iter().find(|(linked, _)| linked == module)?;
        pure_function(&script.instances[*other].module, name)
    };
    match imports {
        true => with_entry(&with_definitions(module, pure)?),
        false => with_entry(module),
    }
}

fn component(script: &Script, harness: &Harness, group: &[usize]) -> Vec<(usize, Finding)> {
    let checks = checks_of(script, group);
    let is_made = |(_, check): &&(usize, &Check)| matches!(check.kind, CheckKind::Makes(_));
    if checks.iter().filter(is_made).count() > INSTANCES_MAX {
        let why = "more instances are linked than a process may have";
        return all(&checks, &Finding::LeftOut(why.to_owned()));
    }
    let spectest = wat::parse_str(SPECTEST).expect("the text is a module");
    let mut modules = vec![("spectest".to_owned(), spectest)];
    for instance in group {
        let module = script.instances[*instance].module.clone();
        modules.push((format!("m{instance}"), module));
    }
    let program = match harness.load(&component_of(&modules)) {
        Ok(program) => program,
        Err(error) => {
            let others = without_off(script, harness, group);
            return others.unwrap_or_else(|| all(&checks, &refused(&error)));
        }
    };
    // `spectest` is the first instance, and the others follow in the order of the file.
    let place = |instance: &usize| {
        1 + group
            .iter()
            .position(|other| other == instance)
            .unwrap_or(0)
    };
    let mut steps = vec![Step::Instantiate {
        export: "spectest".to_owned(),
        links: Vec::new(),
    }];
    for (_, check) in &checks {
        let about = check.kind.instance().unwrap_or_default();
        steps.push(step(check, place(&about)).unwrap_or_else(|| {
            let instance = &script.instances[about];
            let links = instance.links.iter();
            let mut links: Vec<(String, usize)> = links
                .map(|(name, other)| (name.clone(), place(other)))
                .collect();
            if instance.imports_spectest {
                links.push(("spectest".to_owned(), 0));
            }
            Step::Instantiate {
                export: format!("m{about}"),
                links,
            }
        }));
    }
    compare(harness, &program, &steps.into(), &checks, 1)
}

/// Runs a group without the instances whose modules can't be loaded. None if that leaves nothing out.
fn without_off(
    script: &Script,
    harness: &Harness,
    group: &[usize],
) -> Option<Vec<(usize, Finding)>> {
    let mut findings = Vec::new();
    let mut rest: Vec<usize> = Vec::new();
    for instance in group {
        let module = script.instances[*instance].module.clone();
        let names = ["module", "other"].map(str::to_owned);
        let modules: Vec<_> = names.into_iter().zip([module, EMPTY.to_vec()]).collect();
        match verdict_of_loader(harness, &component_of(&modules)) {
            Loaded::IsOff(text) => {
                let checks = checks_of(script, &[*instance]);
                findings.extend(all(&checks, &Finding::LeftOut(text)));
            }
            _ if script.instances[*instance]
                .links
                .iter()
                .any(|(_, other)| !rest.contains(other)) =>
            {
                let checks = checks_of(script, &[*instance]);
                let why = "an instance that it imports from is left out";
                findings.extend(all(&checks, &Finding::LeftOut(why.to_owned())));
            }
            _ => rest.push(*instance),
        }
    }
    if findings.is_empty() {
        return None;
    }
    findings.extend(component(script, harness, &rest));
    Some(findings)
}

/// The step of a check. None if the check makes an instance.
fn step(check: &Check, instance: usize) -> Option<Step> {
    let CheckKind::Acts(_, action, _) = &check.kind else {
        return None;
    };
    Some(match action {
        Action::Call(function, arguments) => Step::Call {
            instance,
            function: function.clone(),
            arguments: arguments.clone(),
        },
        Action::Global(name) => Step::Global(instance, name.clone()),
    })
}

/// Performs the steps, several times, and compares the results with what the checks demand. The last steps belong to the
/// checks.
fn compare(
    harness: &Harness,
    program: &Scriptable,
    steps: &Arc<[Step]>,
    checks: &[(usize, &Check)],
    runs: usize,
) -> Vec<(usize, Finding)> {
    let mut findings = all(checks, &Finding::Passed);
    let first = steps.len() - checks.len();
    for run in 1..=runs {
        let outcomes = harness.run(program, steps);
        for (position, (_, check)) in checks.iter().enumerate() {
            let finding = &mut findings[position].1;
            if *finding != Finding::Passed {
                continue;
            }
            let missing = Outcome::Refused("the process has ended before".to_owned());
            let outcome = outcomes.get(first + position).unwrap_or(&missing);
            if let Err(text) = judge(&check.kind, outcome) {
                *finding = Finding::Failed(match run {
                    1 => text,
                    _ => format!("{text} (in run {run}, and not before)"),
                });
            }
        }
    }
    findings
}

/// Compares the result of a step with what its check demands.
fn judge(check: &CheckKind, outcome: &Outcome) -> Result<(), String> {
    let is_right = match (check, outcome) {
        (CheckKind::Makes(_), Outcome::Values(_)) => true,
        (CheckKind::Unlinkable(_), Outcome::Refused(_)) => true,
        (CheckKind::TrapsAtStart(_, named), Outcome::Trap(found)) => is_trap(named, found),
        (CheckKind::Acts(_, _, verdict), outcome) => match (verdict, outcome) {
            (Verdict::Returns, Outcome::Values(_)) => true,
            (Verdict::ReturnsThese(expected), Outcome::Values(found)) => {
                let mut pairs = expected.iter().zip(found);
                expected.len() == found.len() && pairs.all(|(one, other)| one.matches(*other))
            }
            (Verdict::Traps(named), Outcome::Trap(found)) => is_trap(named, found),
            _ => false,
        },
        _ => false,
    };
    match is_right {
        true => Ok(()),
        false => Err(format!("{}, but: {outcome:x?}", demand(check))),
    }
}

/// The demand of a check, in words.
fn demand(check: &CheckKind) -> String {
    match check {
        CheckKind::Makes(_) => "the instance is to be made".to_owned(),
        CheckKind::Unlinkable(_) => "the instance is not to be linked".to_owned(),
        CheckKind::TrapsAtStart(_, named) => format!("making the instance is to trap: {named}"),
        CheckKind::Acts(_, action, verdict) => {
            let action = match action {
                Action::Call(function, arguments) => format!("`{function}` of {arguments:x?}"),
                Action::Global(name) => format!("the global `{name}`"),
            };
            match verdict {
                Verdict::Returns => format!("{action} is to return"),
                Verdict::ReturnsThese(expected) => format!("{action} is to give {expected:x?}"),
                Verdict::Traps(named) => format!("{action} is to trap: {named}"),
            }
        }
        CheckKind::Accepts(_) | CheckKind::Refuses(_) | CheckKind::LeftOut(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::parse;

    #[test]
    fn wrong_results_are_noticed_on_both_paths() {
        let harness = Harness::new(7).expect("the system starts");
        let script = parse(
            r#"(module (global $g (mut i32) (i32.const 0))
                 (func (export "next") (result i32)
                   (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g))
                 (func (export "trap") unreachable))
               (assert_return (invoke "next") (i32.const 1))
               (assert_return (invoke "next") (i32.const 1))
               (assert_trap (invoke "trap") "unreachable")
               (assert_trap (invoke "trap") "integer overflow")
               (assert_return (invoke "next") (i32.const 3))"#,
        )
        .expect("the file is well-formed");
        for path in [Path::Flattened, Path::Component] {
            let findings = run(&script, &harness, path);
            let passed: Vec<bool> = findings
                .iter()
                .map(|(_, finding)| *finding == Finding::Passed)
                .collect();
            assert_eq!(
                passed,
                [true, true, false, true, false, true],
                "{findings:?}"
            );
        }
    }

    #[test]
    fn instances_are_linked_on_the_component_path() {
        let harness = Harness::new(1).expect("the system starts");
        let script = parse(
            r#"(module (global (export "g") (mut i32) (i32.const 0)) (func (export "f") (result i32) (global.get 0)))
               (register "a")
               (module (import "a" "g" (global $g (mut i32))) (import "spectest" "print" (func $print))
                 (func (export "set") (global.set $g (i32.const 5)) (call $print)) (export "g" (global $g)))
               (assert_return (invoke "set"))
               (assert_return (get "g") (i32.const 5))
               (assert_unlinkable (module (import "a" "h" (func))) "unknown import")"#,
        )
        .expect("the file is well-formed");
        let findings = run(&script, &harness, Path::Component);
        let passed = |(_, finding): &(usize, Finding)| *finding == Finding::Passed;
        assert!(findings.iter().all(passed), "{findings:?}");
        let findings = run(&script, &harness, Path::Flattened);
        let left_out = |(_, finding): &(usize, Finding)| matches!(finding, Finding::LeftOut(_));
        assert!(findings.iter().all(left_out), "{findings:?}");
    }
}
