//! Runs a module by wasmtime alone, which decides what the results are.

use crate::generate::{Random, value};
use atoll_rt::harness::{Outcome, Step, Value};
use wasmtime::{
    Config, Engine, ExternType, Instance, Module, Result, Store, StoreLimits, StoreLimitsBuilder,
    Trap, Val,
};

/// The calls of a module, at most.
const CALLS_MAX: usize = 24;
/// Fuel for making the instance, and for each call.
const FUEL: u64 = 20_000;
/// Less than Atoll gives a process, so that only endless recursion ends a call of Atoll's.
const STACK_BYTES: usize = 256 << 10;

/// wasmtime without Atoll.
pub struct Plain {
    engine: Engine,
}

/// The steps of a process of Atoll's, and the results that they are to have.
pub struct Expected {
    pub steps: Vec<Step>,
    pub outcomes: Vec<Outcome>,
    /// Calls that are left out, because they run out of fuel or stack.
    pub calls_left_out: usize,
}

/// The end of a run.
enum End {
    Whole,
    /// In the call with this number; 0 means that making the instance takes too long.
    Cut(usize),
}

impl Plain {
    pub fn new() -> Result<Plain> {
        let mut config = Config::new();
        config.consume_fuel(true);
        config.max_wasm_stack(STACK_BYTES);
        Ok(Plain {
            engine: Engine::new(&config)?,
        })
    }

    /// Whether a module is valid without the proposals that this build of wasmtime lacks, as Atoll's does.
    pub fn is_valid(&self, bytes: &[u8]) -> bool {
        Module::validate(&self.engine, bytes).is_ok()
    }

    /// Runs the module's functions. None if not even an instance can be made in time.
    pub fn run(&self, bytes: &[u8], entry: &str, seed: u64) -> Result<Option<Expected>> {
        let module = Module::new(&self.engine, bytes)?;
        // A call that is not finished has had effects, so the run begins anew without it.
        let mut left_out = Vec::new();
        loop {
            let mut run = Run::new(&self.engine, entry);
            match run.perform(&module, seed, &left_out)? {
                End::Cut(0) => return Ok(None),
                End::Cut(call) => left_out.push(call),
                End::Whole => {
                    return Ok(Some(Expected {
                        steps: run.steps,
                        outcomes: run.outcomes,
                        calls_left_out: left_out.len(),
                    }));
                }
            }
        }
    }
}

/// One run of a module.
struct Run {
    store: Store<StoreLimits>,
    steps: Vec<Step>,
    outcomes: Vec<Outcome>,
}

impl Run {
    fn new(engine: &Engine, entry: &str) -> Run {
        let mut store = Store::new(engine, StoreLimitsBuilder::new().build());
        store.limiter(|limits| limits);
        Run {
            store,
            steps: vec![Step::Instantiate {
                export: entry.to_owned(),
                links: Vec::new(),
            }],
            outcomes: Vec::new(),
        }
    }

    fn perform(&mut self, module: &Module, seed: u64, left_out: &[usize]) -> Result<End> {
        self.store.set_fuel(FUEL)?;
        let instance = match Instance::new(&mut self.store, module, &[]) {
            Ok(instance) => instance,
            Err(error) => return self.trapped(error, 0),
        };
        self.outcomes.push(Outcome::Values(Vec::new()));
        let functions: Vec<String> = module
            .exports()
            .filter(|export| matches!(export.ty(), ExternType::Func(_)))
            .map(|export| export.name().to_owned())
            .collect();
        let mut random = Random::new(seed);
        for call in 1..=CALLS_MAX.min(functions.len() * 2) {
            let name = &functions[call % functions.len()];
            if left_out.contains(&call) {
                continue;
            }
            if let End::Cut(call) = self.call(&instance, name, &mut random, call)? {
                return Ok(End::Cut(call));
            }
        }
        self.read(module, &instance);
        Ok(End::Whole)
    }

    fn call(
        &mut self,
        instance: &Instance,
        name: &str,
        random: &mut Random,
        number: usize,
    ) -> Result<End> {
        let Some(function) = instance.get_func(&mut self.store, name) else {
            return Ok(End::Whole);
        };
        let ty = function.ty(&self.store);
        let arguments: Vec<Value> = ty.params().map(|ty| value(random, &ty)).collect();
        let given: Vec<Val> = arguments.iter().map(given).collect();
        let mut results = vec![Val::I32(0); ty.results().len()];
        self.steps.push(Step::Call {
            instance: 0,
            function: name.to_owned(),
            arguments,
        });
        self.store.set_fuel(FUEL)?;
        match function.call(&mut self.store, &given, &mut results) {
            Ok(()) => {
                let results = results.iter().map(taken).collect();
                self.outcomes.push(Outcome::Values(results));
                Ok(End::Whole)
            }
            Err(error) => self.trapped(error, number),
        }
    }

    /// Notes a trap. Running out of fuel or stack is the end of the run.
    fn trapped(&mut self, error: wasmtime::Error, call: usize) -> Result<End> {
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel | Trap::StackOverflow) => Ok(End::Cut(call)),
            Some(trap) => {
                self.outcomes.push(Outcome::Trap(trap.to_string()));
                Ok(End::Whole)
            }
            None => Err(error),
        }
    }

    /// Reads everything that the module exports.
    fn read(&mut self, module: &Module, instance: &Instance) {
        for export in module.exports() {
            let name = export.name().to_owned();
            let (step, outcome) = match export.ty() {
                ExternType::Global(_) => {
                    let global = instance.get_global(&mut self.store, &name);
                    let global = global.expect("it is exported").get(&mut self.store);
                    (Step::Global(0, name), Outcome::Values(vec![taken(&global)]))
                }
                ExternType::Memory(_) => {
                    let memory = instance.get_memory(&mut self.store, &name);
                    let bytes = memory.expect("it is exported").data(&self.store).to_vec();
                    (Step::Memory(0, name), Outcome::Bytes(bytes))
                }
                ExternType::Table(_) => {
                    let table = instance.get_table(&mut self.store, &name);
                    let table = table.expect("it is exported");
                    let indexes = 0..table.size(&self.store);
                    let elements = indexes.map(|index| match table.get(&mut self.store, index) {
                        Some(element) if !element.is_null() => Value::Function,
                        _ => Value::Null,
                    });
                    let elements = elements.collect();
                    (Step::Table(0, name), Outcome::Values(elements))
                }
                _ => continue,
            };
            self.steps.push(step);
            self.outcomes.push(outcome);
        }
    }
}

fn given(value: &Value) -> Val {
    match *value {
        Value::I32(value) => Val::I32(value),
        Value::I64(value) => Val::I64(value),
        Value::F32(bits) => Val::F32(bits),
        Value::F64(bits) => Val::F64(bits),
        Value::V128(bits) => Val::V128(bits.into()),
        Value::Null | Value::Function => Val::FuncRef(None),
    }
}

fn taken(value: &Val) -> Value {
    match value {
        Val::I32(value) => Value::I32(*value),
        Val::I64(value) => Value::I64(*value),
        Val::F32(bits) => Value::F32(*bits),
        Val::F64(bits) => Value::F64(*bits),
        Val::V128(bits) => Value::V128(bits.as_u128()),
        Val::FuncRef(Some(_)) => Value::Function,
        _ => Value::Null,
    }
}
