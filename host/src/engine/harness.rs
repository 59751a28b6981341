//! A test harness for the engine: processes that call exported functions with arguments.
//!
//! The contract runs only functions without parameters, so tests of wasm itself can't run as guests. The harness loads a
//! module with the loader, the rewriter, the compiler and the slots of any program, and gives its processes a list of
//! [`Step`]s in place of a function. A process performs its steps in its turns and goes on after traps.
//!
//! On the flattened path, a program is one module, and its processes get recycled instances like others. On the
//! component path, a program is a component that exports core modules. A process makes instances of them in one store
//! and links them with one another.

use super::inhabitant::Inhabitant;
use super::instance::{self, Loaded, Program, end_of_component, outcome};
use super::load::Engine;
use super::recycling::Parts;
use super::slots::Written;
use super::state::State;
use crate::rewriter::{COUNTER, Exported, LoadError, Rewritten};
use crate::system::Rights;
use crate::system::program::{Body, NewProcess, Runnable, SpawnError};
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::{HeapType, Instance, Linker, Store, Trap, Val};

/// A value of core wasm; floats as their bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// A value of type `i32`.
    I32(i32),
    /// A value of type `i64`.
    I64(i64),
    /// A value of type `f32`.
    F32(u32),
    /// A value of type `f64`.
    F64(u64),
    /// A value of type `v128`.
    V128(u128),
    /// A null reference to a function.
    Null,
    /// Any reference to a function. It can't be an argument.
    Function,
}

/// A step of a process.
#[derive(Clone, Debug)]
pub enum Step {
    /// Makes the next instance, of the exported module with this name, and runs its start function. Each link names a
    /// module that it imports from, and the instance to import from. On the flattened path the instance is there from
    /// the beginning, and the step calls the exported function with this name.
    Instantiate {
        /// The name of the module or function.
        export: String,
        /// The links.
        links: Vec<(String, usize)>,
    },
    /// Calls an exported function of an instance.
    Call {
        /// The number of the instance.
        instance: usize,
        /// The function's name.
        function: String,
        /// Its arguments.
        arguments: Vec<Value>,
    },
    /// Reads an exported global.
    Global(usize, String),
    /// Reads all bytes of an exported memory.
    Memory(usize, String),
    /// Reads an exported table of functions.
    Table(usize, String),
}

/// The result of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The values that a function has returned, or that a global or a table holds.
    Values(Vec<Value>),
    /// The bytes of a memory.
    Bytes(Vec<u8>),
    /// A trap, in wasmtime's words.
    Trap(String),
    /// The host has refused the step, for this reason.
    Refused(String),
}

/// The steps of one process, and their results so far.
pub(crate) struct Script {
    steps: Arc<[Step]>,
    pub(crate) outcomes: Mutex<Vec<Outcome>>,
}

impl Script {
    pub(crate) fn new(steps: Arc<[Step]>) -> Arc<Script> {
        Arc::new(Script {
            steps,
            outcomes: Mutex::default(),
        })
    }

    fn record(&self, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push(outcome);
    }
}

/// A loaded program whose processes follow scripts.
#[derive(Clone)]
pub struct Scriptable(Arc<Kind>);

enum Kind {
    Flattened(Program<instance::Core>),
    Component(Loaded),
}

impl Scriptable {
    /// The program as the system sees it, with a script for one process.
    pub(crate) fn with(&self, script: Arc<Script>) -> Arc<dyn Runnable> {
        Arc::new(Scripted {
            program: self.clone(),
            script,
        })
    }
}

impl Engine {
    /// Loads a module for the flattened path, or a component that exports core modules. Keeps the exports of functions.
    pub(crate) fn load_scriptable(&self, bytes: &[u8]) -> Result<Scriptable, LoadError> {
        const NAME: &str = "harness";
        let kind = match self.rewrite(bytes, Exported::All)? {
            Rewritten::Module(module) => {
                Kind::Flattened(self.load_module(NAME, &module, Rights::all())?)
            }
            Rewritten::Component(component) => {
                Kind::Component(self.load_component(NAME, &component, Rights::all())?)
            }
        };
        Ok(Scriptable(Arc::new(kind)))
    }
}

/// A program with the script of its only process.
struct Scripted {
    program: Scriptable,
    script: Arc<Script>,
}

impl Runnable for Scripted {
    fn name(&self) -> &str {
        match &*self.program.0 {
            Kind::Flattened(program) => program.name(),
            Kind::Component(loaded) => &loaded.common.name,
        }
    }

    fn function(&self, _name: &str) -> Option<u32> {
        Some(0)
    }

    fn function_name(&self, _function: u32) -> &str {
        "script"
    }

    fn function_names(&self) -> Vec<String> {
        vec!["script".to_owned()]
    }

    fn is_guest_function(&self, index: u32) -> bool {
        match &*self.program.0 {
            Kind::Flattened(program) => program.is_guest_function(index),
            Kind::Component(_) => true,
        }
    }

    fn needs(&self) -> Rights {
        Rights::empty()
    }

    fn has_host_calls(&self) -> bool {
        match &*self.program.0 {
            Kind::Flattened(program) => program.has_host_calls(),
            Kind::Component(_) => true,
        }
    }

    fn instance_bytes(&self) -> u64 {
        0
    }

    fn start(&self, _function: u32, process: NewProcess) -> Result<Body, SpawnError> {
        match &*self.program.0 {
            Kind::Flattened(program) => start_flattened(program, self.script.clone(), process),
            Kind::Component(loaded) => start_component(loaded, self.script.clone(), process),
        }
    }
}

fn start_flattened(
    program: &Program<instance::Core>,
    script: Arc<Script>,
    process: NewProcess,
) -> Result<Body, SpawnError> {
    let functions: Vec<Option<u32>> = script
        .steps
        .iter()
        .map(|step| match step {
            Step::Instantiate { export, .. } => program.function(export),
            _ => None,
        })
        .collect();
    let mut made = program.make(process)?;
    let legacy = program.common().legacy.clone();
    let closing = program.closing();
    let home = made.home.clone();
    let run = async move {
        let Parts {
            store,
            instance,
            entry,
            ..
        } = &mut *made.parts;
        for (step, function) in script.steps.iter().zip(functions) {
            let outcome = match step {
                Step::Instantiate { .. } => match function {
                    Some(function) => match entry.call_async(&mut *store, (function as i32,)).await
                    {
                        Ok(_) => Outcome::Values(Vec::new()),
                        Err(error) => failure(&error),
                    },
                    None => refused("there is no such function"),
                },
                step => perform(store, Some(&*instance), step).await,
            };
            script.record(outcome);
        }
        let counter = instance.get_global(&mut *store, COUNTER);
        let left = counter.and_then(|counter| counter.get(&mut *store).i64());
        outcome(made, Ok(left.unwrap_or(0)), closing)
    };
    Ok(Box::new(Inhabitant::new(home, legacy, run)))
}

fn start_component(
    loaded: &Loaded,
    script: Arc<Script>,
    process: NewProcess,
) -> Result<Body, SpawnError> {
    let home = loaded.common.home(&Written::default())?;
    let mut store = loaded.common.fuelled_store(process)?;
    let component = loaded.instance.clone();
    let run = async move {
        let mut instances = Vec::new();
        let outer = component.instantiate_async(&mut store).await;
        for step in script.steps.iter() {
            let outcome = match (step, &outer) {
                (Step::Instantiate { export, links }, Ok(outer)) => {
                    let module = outer.get_module(&mut store, export.as_str());
                    let made = match module {
                        Some(module) => link(&mut store, &module, links, &instances).await,
                        None => Err(refused("there is no such module")),
                    };
                    let (made, outcome) = match made {
                        Ok(instance) => (Some(instance), Outcome::Values(Vec::new())),
                        Err(outcome) => (None, outcome),
                    };
                    instances.push(made);
                    outcome
                }
                (_, Err(error)) => failure(error),
                (step, Ok(_)) => {
                    let instance = instances.get(step.instance()).and_then(Option::as_ref);
                    perform(&mut store, instance, step).await
                }
            };
            script.record(outcome);
        }
        end_of_component(&store, Ok(()))
    };
    let legacy = loaded.common.legacy.clone();
    Ok(Box::new(Inhabitant::new(home, legacy, run)))
}

/// Makes an instance of a module, with the exports of other instances as its imports.
async fn link(
    store: &mut Store<State>,
    module: &wasmtime::Module,
    links: &[(String, usize)],
    instances: &[Option<Instance>],
) -> Result<Instance, Outcome> {
    let mut linker = Linker::new(store.engine());
    linker.allow_shadowing(true);
    for (name, instance) in links {
        let Some(Some(instance)) = instances.get(*instance) else {
            return Err(refused("an instance to import from was not made"));
        };
        linker
            .instance(&mut *store, name, *instance)
            .map_err(|error| failure(&error))?;
    }
    let made = linker.instantiate_async(&mut *store, module).await;
    made.map_err(|error| failure(&error))
}

impl Step {
    /// The number of the instance that the step is about.
    fn instance(&self) -> usize {
        match self {
            Step::Instantiate { .. } => 0,
            Step::Call { instance, .. } => *instance,
            Step::Global(instance, _) | Step::Memory(instance, _) | Step::Table(instance, _) => {
                *instance
            }
        }
    }
}

/// Performs a step on an instance that has been made.
async fn perform(store: &mut Store<State>, instance: Option<&Instance>, step: &Step) -> Outcome {
    let Some(instance) = instance else {
        return refused("the instance was not made");
    };
    match step {
        Step::Instantiate { .. } => refused("the instance is there"),
        Step::Call {
            function,
            arguments,
            ..
        } => call(store, instance, function, arguments).await,
        Step::Global(_, name) => match instance.get_global(&mut *store, name) {
            Some(global) => Outcome::Values(vec![value(&global.get(&mut *store))]),
            None => refused("there is no such global"),
        },
        Step::Memory(_, name) => match instance.get_memory(&mut *store, name) {
            Some(memory) => Outcome::Bytes(memory.data(&*store).to_vec()),
            None => refused("there is no such memory"),
        },
        Step::Table(_, name) => match instance.get_table(&mut *store, name) {
            Some(table) => {
                let indexes = 0..table.size(&*store);
                let elements = indexes.map(|index| match table.get(&mut *store, index) {
                    Some(element) if !element.is_null() => Value::Function,
                    _ => Value::Null,
                });
                Outcome::Values(elements.collect())
            }
            None => refused("there is no such table"),
        },
    }
}

async fn call(
    store: &mut Store<State>,
    instance: &Instance,
    function: &str,
    arguments: &[Value],
) -> Outcome {
    let Some(function) = instance.get_func(&mut *store, function) else {
        return refused("there is no such function");
    };
    let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
    let arguments: Vec<Val> = arguments.iter().map(argument).collect();
    let called = function.call_async(&mut *store, &arguments, &mut results);
    match called.await {
        Ok(()) => Outcome::Values(results.iter().map(value).collect()),
        Err(error) => failure(&error),
    }
}

fn argument(value: &Value) -> Val {
    match *value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(bits.into()),
        Value::Null | Value::Function => Val::null_ref(&HeapType::Func),
    }
}

fn value(value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(bits) => Value::F32(*bits),
        Val::F64(bits) => Value::F64(*bits),
        Val::V128(bits) => Value::V128(bits.as_u128()),
        Val::FuncRef(Some(_)) => Value::Function,
        // Other references are off.
        _ => Value::Null,
    }
}

fn failure(error: &wasmtime::Error) -> Outcome {
    match error.downcast_ref::<Trap>() {
        Some(trap) => Outcome::Trap(trap.to_string()),
        None => Outcome::Refused(format!("{error:#}")),
    }
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused(why.to_owned())
}
