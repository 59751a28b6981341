//! `atoll run`: from the command line to a system with its first process.

use crate::Failure;
use crate::arguments::Run;
use crate::lifetime::{Lifetime, RunEvents};
use crate::policy::Policy;
use crate::signals;
use atoll_rt::{
    Config, Grants, Limits, LoadError, NetGrant, Output, Program, Rights, Spawn, System,
    TreeOptions, printable, printable_name,
};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// A system that is to be run: from the command line, or from a policy.
struct Plan {
    config: Config,
    programs: Vec<PlannedProgram>,
    /// The name of the first process's program among them.
    first: String,
    function: String,
    argument: Option<String>,
    /// The options of the first process's tree, if it has any.
    tree: Option<TreeOptions>,
}

struct PlannedProgram {
    name: String,
    file: PathBuf,
    /// The options of each process of the program that another program spawns.
    options: Option<TreeOptions>,
}

pub fn run(options: Run) -> Result<ExitCode, Failure> {
    let events = RunEvents::new(signals::handle())?;
    let output = Output::inherit();
    let mut config = config(&options, output.clone())?;
    let plan = match &options.policy {
        Some(path) => {
            let policy = Policy::read(path)?;
            policy.configure(&mut config);
            planned(&policy, config, &options.command)?
        }
        None => plan(&options, config),
    };
    let system = System::new(plan.config).map_err(not_started)?;
    let mut first = None;
    for program in &plan.programs {
        let loaded = load(&system, program)?;
        if program.name == plan.first {
            first = Some((loaded, &program.file));
        }
    }
    let (program, file) = first.ok_or_else(|| Failure::new("there is no first program"))?;

    let mut spawn = Spawn::new(&program).function(&plan.function);
    if let Some(argument) = plan.argument {
        spawn = spawn.argument(argument.into_bytes());
    }
    events.begin();
    let spawned = match plan.tree {
        Some(tree) => system
            .spawn_tree(spawn.within(tree))
            .map(|(_, tree, watch)| (Some(tree), watch)),
        None => system.spawn_watched(spawn).map(|(_, watch)| (None, watch)),
    };
    let (tree, watch) = spawned.map_err(|error| {
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
        tree,
    };
    lifetime.last(watch, &events)
}

/// The plan of the command line.
fn plan(options: &Run, config: Config) -> Plan {
    let file = PathBuf::from(&options.command[0]);
    let name = file
        .file_stem()
        .map_or("main".into(), |stem| stem.to_string_lossy().into_owned());
    let mut programs = Vec::new();
    for (name, path) in &options.programs {
        programs.push(PlannedProgram {
            name: name.clone(),
            file: path.clone(),
            options: None,
        });
    }
    programs.push(PlannedProgram {
        name: name.clone(),
        file,
        options: None,
    });
    Plan {
        config,
        programs,
        first: name,
        function: options.function.clone().unwrap_or_default(),
        argument: options.argument.clone(),
        tree: tree(options),
    }
}

/// The limits of the first process's tree, to which all processes belong. None if there are none.
fn tree(options: &Run) -> Option<TreeOptions> {
    let mut tree = TreeOptions::default();
    let limits = &mut tree.limits;
    limits.messages = options.max_messages;
    limits.overflow = options.on_full_mailbox;
    limits.reductions = options.max_reductions;
    limits.rate = options.max_rate;
    limits.output = options.max_output;
    limits.output_rate = options.max_output_rate;
    limits.blocking = options.max_blocking;
    (*limits != Limits::new()).then_some(tree)
}

/// The plan of a policy. The words of the command line are the guest's arguments.
fn planned(policy: &Policy, mut config: Config, words: &[OsString]) -> Result<Plan, Failure> {
    let first = policy.first();
    let programs = policy.programs().into_iter();
    let programs: Vec<_> = programs
        .map(|program| PlannedProgram {
            name: program.name,
            file: program.file,
            options: Some(program.options),
        })
        .collect();
    let file = programs
        .iter()
        .find(|program| program.name == first.program);
    let file = file.map(|program| program.file.clone().into_os_string());
    let command: Vec<_> = file.into_iter().chain(words.iter().cloned()).collect();
    config.grants.args = arguments(&command)?;
    Ok(Plan {
        config,
        programs,
        first: first.program,
        function: first.function,
        argument: Some(first.argument),
        tree: Some(TreeOptions::default()),
    })
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
        without: options
            .without
            .iter()
            .fold(Rights::empty(), |all, right| all | *right),
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
    if let Some(resolution) = options.clock_resolution {
        config.clock_resolution = resolution;
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

fn load(system: &System, program: &PlannedProgram) -> Result<Program, Failure> {
    let bytes = read(&program.file)?;
    let loaded = match &program.options {
        Some(options) => system.load_within(&program.name, &bytes, options.clone()),
        None => system.load(&program.name, &bytes),
    };
    loaded.map_err(|error| not_loaded(&program.file, &error))
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
