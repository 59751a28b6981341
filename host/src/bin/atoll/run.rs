//! `atoll run`: from the command line to a system with its first process.

use crate::Failure;
use crate::arguments::Run;
use crate::lifetime::{Lifetime, RunEvents};
use crate::signals;
use atoll_rt::{
    Config, Grants, LoadError, NetGrant, Output, Program, Spawn, System, printable, printable_name,
};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

pub fn run(options: Run) -> Result<ExitCode, Failure> {
    let events = RunEvents::new(signals::handle())?;
    let output = Output::inherit();
    let config = config(&options, output.clone())?;
    let system = System::new(config).map_err(not_started)?;
    for (name, path) in &options.programs {
        load(&system, name, path)?;
    }
    let file = Path::new(&options.command[0]);
    let name = file
        .file_stem()
        .map_or("main".into(), |stem| stem.to_string_lossy());
    let program = load(&system, &name, file)?;

    let function = options.function.clone().unwrap_or_default();
    let mut spawn = Spawn::new(&program).function(&function);
    if let Some(argument) = options.argument {
        spawn = spawn.argument(argument.into_bytes());
    }
    events.begin();
    let (_, watch) = system.spawn_watched(spawn).map_err(|error| {
        let failure = Failure::new(format!("`{}` can't be started: {error}", file.display()));
        match error {
            atoll_rt::SpawnError::UnknownFunction => failure.hint(format!(
                "its functions are: {}",
                names(&program.functions())
            )),
            _ => failure,
        }
    })?;
    let lifetime = Lifetime {
        system: &system,
        output: &output,
        grace: options.grace,
        stats: options.stats,
    };
    lifetime.last(watch, &events)
}

fn not_started(error: atoll_rt::Error) -> Failure {
    match error {
        atoll_rt::Error::Grant(grant) => Failure::new(grant.to_string()).hint(grant.hint()),
        other => Failure::new(other.to_string()),
    }
}

fn config(options: &Run, output: Output) -> Result<Config, Failure> {
    let mut config = Config {
        reductions: options.reductions,
        max_processes: options.max_processes,
        max_memory: options.max_memory,
        max_mailbox: options.max_mailbox,
        max_message: options.max_message,
        max_ties: options.max_ties,
        max_stack: usize::try_from(options.max_stack).unwrap_or(usize::MAX),
        allow_inspect: options.allow_inspect,
        allow_debug: options.allow_debug,
        cache: !options.no_cache,
        compiler: Some(own_program()),
        max_compile_time: options.max_compile_time,
        hibernate_after: options.hibernate_after.0,
        poison: options.poison,
        grants: Grants {
            dirs: options.dirs.clone(),
            env: options.env.clone(),
            args: arguments(&options.command)?,
            net: options
                .allow_net
                .iter()
                .cloned()
                .fold(NetGrant::None, NetGrant::and),
            stdin: !options.no_stdin,
            ..Grants::default()
        },
        output: output.clone(),
        ..Config::default()
    };
    if let Some(schedulers) = options.schedulers {
        config.schedulers = schedulers;
    }
    if let Some(bytes) = options.max_total_memory {
        config.max_total_memory = bytes;
    }
    if let Some(bytes) = options.max_compile_memory {
        config.max_compile_memory = bytes;
    }
    if let Some(handles) = options.max_handles {
        config.grants.handles_max = handles;
    }
    let quiet = options.quiet;
    config.on_crash = Arc::new(move |report| {
        if !quiet {
            output.report(&report.to_string());
        }
    });
    Ok(config)
}

/// The path of this program's file. If the file has been replaced or removed, use `/proc/self/exe`, through which the kernel
/// still finds it. Otherwise use the path: under a tool such as valgrind, the kernel's entry is the tool.
pub fn own_program() -> PathBuf {
    let named = std::env::current_exe().ok().filter(|path| path.is_file());
    named.unwrap_or_else(|| "/proc/self/exe".into())
}

/// The command line as the guest sees it. Arguments must be UTF-8. If the program's path isn't, the guest gets it with
/// replacement characters.
fn arguments(command: &[OsString]) -> Result<Vec<String>, Failure> {
    let file = command
        .first()
        .map(|file| Ok(file.to_string_lossy().into()));
    let rest = command.iter().skip(1).map(|word| match word.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::new(format!("the argument {word:?} is not UTF-8"))
            .hint("a guest's arguments are UTF-8 texts")),
    });
    file.into_iter().chain(rest).collect()
}

fn load(system: &System, name: &str, path: &Path) -> Result<Program, Failure> {
    let bytes = read(path)?;
    system
        .load(name, &bytes)
        .map_err(|error| not_loaded(path, &error))
}

/// Makes a guest's names safe to print.
pub fn names(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| printable_name(name)).collect();
    printable(&names.join(", "), 4000)
}

/// The failure for a file that can't be loaded.
pub fn not_loaded(path: &Path, error: &LoadError) -> Failure {
    Failure::new(format!("`{}` can't be loaded: {error}", path.display())).hint(error.hint())
}

/// Reads a program from a file, or from standard input for `-`. Reads at most one byte more than a module may have.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let fails = |error: std::io::Error| {
        let failure = Failure::new(format!("`{}` can't be read: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::NotFound => failure.hint(
                "check the path; guests of this repository are built by `cargo xtask guests`",
            ),
            std::io::ErrorKind::IsADirectory => failure.hint("name the .wasm file in it"),
            _ => failure,
        }
    };
    let limit = Config::default().max_module + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(fails)?;
    } else {
        let file = std::fs::File::open(path).map_err(fails)?;
        file.take(limit).read_to_end(&mut bytes).map_err(fails)?;
    }
    Ok(bytes)
}
