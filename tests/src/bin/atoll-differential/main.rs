//! `atoll-differential`: runs random modules by wasmtime alone and by Atoll, and compares the results.
//!
//! Everything has to agree: the results and traps of calls, and what memories, globals and tables hold afterwards. Atoll
//! runs each module on the flattened path, as often as it takes for an instance to be used again, and some modules on the
//! component path too. The seed of a module decides the module, its calls and the slice. `cargo xtask differential` builds
//! and runs it.
//!
//! Calls that run out of fuel or stack by wasmtime alone are left out, and so are modules that can't be instantiated in
//! time.

mod generate;
mod plain;

use anyhow::{Context, Result, anyhow, bail};
use atoll_rt::harness::{Harness, Outcome, Step};
use atoll_tests::wasm::{component_of, with_entry};
use clap::Parser;
use generate::Random;
use plain::Plain;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The reductions of a slice: as usual, and so few that a process is preempted almost everywhere.
const SLICES: [u32; 3] = [4000, 7, 1];
/// So many processes of a program use one another's instances: the host restores eight together.
const RUNS: usize = 9;
/// One module in so many runs on the component path, too.
const COMPONENTS: u64 = 4;
/// The most differences that are printed.
const SHOWN_MAX: usize = 10;

/// Compares Atoll with wasmtime on random modules.
#[derive(Parser)]
#[command(name = "atoll-differential")]
struct Arguments {
    /// The number of modules
    #[arg(long, default_value_t = 2000)]
    modules: u64,
    /// The seed of the first module; the others have the next ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Save the modules on which the sides differ in this folder
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.modules);
    let tally = perform(seeds)?;
    for difference in tally.differences.iter().take(SHOWN_MAX) {
        println!("seed {}: {}", difference.seed, difference.text);
    }
    if let Some(folder) = &arguments.save {
        save(folder, &tally.differences)?;
    }
    println!(
        "left out: {} modules and {} other calls that take too long; {} instances were used again",
        tally.skipped, tally.left_out, tally.used_again
    );
    let differences = tally.differences.len();
    println!(
        "{} modules, {} calls, {} traps, {differences} differences",
        arguments.modules, tally.calls, tally.traps
    );
    if differences > 0 {
        bail!("{differences} differences");
    }
    Ok(())
}

fn save(folder: &Path, differences: &[Difference]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let context = || format!("saving modules in {}", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    for difference in differences {
        let file = folder.join(format!("{}.wasm", difference.seed));
        std::fs::write(file, &difference.module).with_context(context)?;
    }
    Ok(())
}

/// The sum of all comparisons.
#[derive(Default, Debug)]
struct Tally {
    calls: usize,
    traps: usize,
    /// Modules whose instances can't be made in time.
    skipped: usize,
    /// Calls that take too long.
    left_out: usize,
    used_again: u64,
    differences: Vec<Difference>,
}

#[derive(Debug)]
struct Difference {
    seed: u64,
    text: String,
    module: Vec<u8>,
}

/// Compares the sides on the modules with these seeds, on several threads.
fn perform(seeds: std::ops::Range<u64>) -> Result<Tally> {
    let plain = Plain::new().map_err(|error| anyhow!("{error:#}"))?;
    let harnesses = SLICES
        .iter()
        .map(|slice| Ok((*slice, Harness::new(*slice)?)))
        .collect::<Result<Vec<_>>>()?;
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let work = || -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            let context = || format!("seed {seed}");
            let (slice, harness) = &harnesses[(seed % SLICES.len() as u64) as usize];
            let compared = one(seed, &plain, *slice, harness).with_context(context)?;
            let mut tally = tally.lock().unwrap_or_else(|error| error.into_inner());
            tally.calls += compared.calls;
            tally.traps += compared.traps;
            tally.skipped += compared.skipped;
            tally.left_out += compared.left_out;
            tally.differences.extend(compared.differences);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = working.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect::<Result<()>>()
    })?;
    let mut tally = tally
        .into_inner()
        .unwrap_or_else(|error| error.into_inner());
    let used_again = harnesses
        .iter()
        .map(|(_, harness)| harness.instances_used_again());
    tally.used_again = used_again.sum();
    tally.differences.sort_by_key(|difference| difference.seed);
    Ok(tally)
}

/// Compares the sides on one module.
fn one(seed: u64, plain: &Plain, slice: u32, harness: &Harness) -> Result<Tally> {
    let mut random = Random::new(seed);
    let module = generate::module(&mut random, |bytes| plain.is_valid(bytes))?;
    let (runnable, entry) = with_entry(&module)?;
    let mut tally = Tally::default();
    let Some(expected) = plain
        .run(&module, entry, random.next())
        .map_err(|error| anyhow!("{error:#}"))?
    else {
        tally.skipped = 1;
        return Ok(tally);
    };
    tally.left_out = expected.calls_left_out;
    let is_call = |step: &&Step| matches!(step, Step::Call { .. });
    tally.calls = expected.steps.iter().filter(is_call).count();
    let is_trap = |outcome: &&Outcome| matches!(outcome, Outcome::Trap(_));
    tally.traps = expected.outcomes.iter().filter(is_trap).count();
    let mut differs = |path: &str, text: String| {
        tally.differences.push(Difference {
            seed,
            text: format!("{path}, slice {slice}: {text}"),
            module: module.clone(),
        });
    };
    if let Some(text) = difference(
        harness,
        &runnable,
        &expected.steps,
        &expected.outcomes,
        RUNS,
    ) {
        differs("flattened", text);
    }
    if seed.is_multiple_of(COMPONENTS) {
        let names = ["module", "other"].map(str::to_owned);
        let modules: Vec<_> = names
            .into_iter()
            .zip([module.clone(), EMPTY.to_vec()])
            .collect();
        let mut steps = expected.steps.clone();
        steps[0] = Step::Instantiate {
            export: "module".to_owned(),
            links: Vec::new(),
        };
        let component = component_of(&modules);
        if let Some(text) = difference(harness, &component, &steps, &expected.outcomes, 1) {
            differs("component", text);
        }
    }
    Ok(tally)
}

/// A module without anything: the loader would unwrap a component with one module.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

/// Runs the steps on Atoll, several times, and describes the first difference.
fn difference(
    harness: &Harness,
    bytes: &[u8],
    steps: &[Step],
    expected: &[Outcome],
    runs: usize,
) -> Option<String> {
    let program = match harness.load(bytes) {
        Ok(program) => program,
        Err(error) => return Some(format!("not loaded: {error}")),
    };
    let steps: std::sync::Arc<[Step]> = steps.into();
    for run in 1..=runs {
        let found = harness.run(&program, &steps);
        for (index, (step, expected)) in steps.iter().zip(expected).enumerate() {
            let text = match found.get(index) {
                None => "the process has ended before".to_owned(),
                Some(found) if found == expected => continue,
                // The rewriter removes tables that never change.
                Some(Outcome::Refused(_)) if matches!(step, Step::Table(..)) => continue,
                Some(found) => described(expected, found),
            };
            return Some(format!("run {run}, step {index}, {step:x?}: {text}"));
        }
    }
    None
}

/// Two outcomes that differ; of memories only the first byte that does.
fn described(expected: &Outcome, found: &Outcome) -> String {
    if let (Outcome::Bytes(expected), Outcome::Bytes(found)) = (expected, found) {
        let mut pairs = expected.iter().zip(found).enumerate();
        return match pairs.find(|(_, (expected, found))| expected != found) {
            Some((at, (expected, found))) => {
                format!("byte {at} is {found:#x}, and by wasmtime {expected:#x}")
            }
            None => format!("{} bytes, and by wasmtime {}", found.len(), expected.len()),
        };
    }
    format!("{found:x?}, and by wasmtime {expected:x?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_agree_on_some_modules() {
        let tally = perform(1..201).expect("the systems start");
        let texts = tally.differences.iter().map(|difference| &difference.text);
        assert_eq!(texts.collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(tally.calls > 0 && tally.traps > 0 && tally.used_again > 0);
    }

    #[test]
    fn a_difference_is_described() {
        let bytes = |bytes: &[u8]| Outcome::Bytes(bytes.to_vec());
        assert_eq!(
            described(&bytes(&[1, 2]), &bytes(&[1, 3])),
            "byte 1 is 0x3, and by wasmtime 0x2"
        );
        let text = described(&bytes(&[1]), &bytes(&[]));
        assert_eq!(text, "0 bytes, and by wasmtime 1");
    }
}
