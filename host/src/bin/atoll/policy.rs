//! Policies: TOML files that describe a whole system. A program has only the rights that the policy grants to it.
//!
//! docs/policies.md is the reference. Errors name the line.

use crate::Failure;
use crate::units;
use atoll_rt::{Config, DirGrant, Limits, NetGrant, Overflow, Rights, TreeOptions};
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A policy file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    first: First,
    #[serde(default)]
    system: SystemTable,
    programs: BTreeMap<String, ProgramTable>,
}

/// The first process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct First {
    program: Spanned<String>,
    #[serde(default)]
    function: String,
    #[serde(default)]
    argument: String,
}

/// The settings that hold for all processes, and the things that the host grants at all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct SystemTable {
    schedulers: Option<usize>,
    reductions: Option<u32>,
    hibernate_after: Option<Hibernation>,
    clock_resolution: Option<Time>,
    max_processes: Option<u32>,
    max_memory: Option<Size>,
    max_total_memory: Option<Size>,
    max_mailbox: Option<Size>,
    max_message: Option<Size>,
    max_ties: Option<u32>,
    max_stack: Option<Size>,
    max_handles: Option<usize>,
    max_compile_time: Option<Time>,
    max_compile_memory: Option<Size>,
    directories: Vec<DirectoryTable>,
    network: Option<Network>,
    environment: BTreeMap<String, String>,
}

/// A directory that programs may be given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DirectoryTable {
    host: PathBuf,
    guest: String,
    #[serde(default)]
    writable: bool,
}

/// A program: its file, and what its processes may do and use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ProgramTable {
    file: PathBuf,
    #[serde(default)]
    rights: Vec<Right>,
    #[serde(default)]
    programs: Vec<Spanned<String>>,
    directories: Option<Vec<Spanned<String>>>,
    network: Option<Network>,
    #[serde(default)]
    own_names: bool,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LimitsTable {
    memory: Option<Size>,
    mailbox: Option<Size>,
    messages: Option<u64>,
    on_full_mailbox: Option<Fate>,
    ties: Option<u32>,
    handles: Option<u32>,
    tree_memory: Option<Size>,
    processes: Option<u32>,
    reductions: Option<u64>,
    rate: Option<Share>,
    output: Option<Size>,
    output_rate: Option<Size>,
    blocking: Option<u32>,
}

/// A text that a function of [`units`] parses. The error of the function gets the text's place in the file.
macro_rules! parsed {
    ($($name:ident($ty:ty) by $parse:expr;)+) => {$(
        struct $name($ty);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Text(text) = Text::deserialize(deserializer)?;
                $parse(&text).map($name).map_err(de::Error::custom)
            }
        }
    )+};
}

parsed! {
    Size(u64) by units::size;
    Time(Duration) by units::duration;
    Hibernation(units::Hibernation) by units::hibernation;
    Share(u32) by units::rate;
    Fate(Overflow) by units::overflow;
    Right(Rights) by units::right;
    Network(NetGrant) by network;
}

fn network(text: &str) -> Result<NetGrant, String> {
    NetGrant::parse(text).map_err(|error| error.to_string())
}

/// A text, or a number as a text.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a text or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// A program of a policy, ready to be loaded.
pub struct PlannedProgram {
    pub name: String,
    pub file: PathBuf,
    pub options: TreeOptions,
}

/// The first process of a policy.
pub struct PlannedFirst {
    pub program: String,
    pub function: String,
    pub argument: String,
}

impl Policy {
    /// Reads and checks a policy. Paths in it are relative to its own folder.
    pub fn read(path: &Path) -> Result<Policy, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("`{}` can't be read: {error}", path.display()))
                .hint("`atoll inspect --policy FILE` prints a policy for a program")
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let policy = parse(&text, folder);
        policy.map_err(|error| {
            Failure::new(format!("`{}`: {error}", path.display()))
                .hint("docs/policies.md describes policies")
        })
    }

    /// The programs, in the order of their names.
    pub fn programs(&self) -> Vec<PlannedProgram> {
        let planned = self.programs.iter().map(|(name, program)| PlannedProgram {
            name: name.clone(),
            file: program.file.clone(),
            options: program.options(),
        });
        planned.collect()
    }

    pub fn first(&self) -> PlannedFirst {
        PlannedFirst {
            program: self.first.program.as_ref().clone(),
            function: self.first.function.clone(),
            argument: self.first.argument.clone(),
        }
    }

    /// Sets what the policy says of the system. What it does not say stays.
    pub fn configure(&self, config: &mut Config) {
        fn set<T>(setting: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *setting = value;
            }
        }
        let system = &self.system;
        let size = |size: &Option<Size>| size.as_ref().map(|size| size.0);
        set(&mut config.schedulers, system.schedulers);
        set(&mut config.reductions, system.reductions);
        set(&mut config.max_processes, system.max_processes);
        set(&mut config.max_memory, size(&system.max_memory));
        set(&mut config.max_total_memory, size(&system.max_total_memory));
        set(&mut config.max_mailbox, size(&system.max_mailbox));
        set(&mut config.max_message, size(&system.max_message));
        set(&mut config.max_ties, system.max_ties);
        let stack = size(&system.max_stack).and_then(|bytes| bytes.try_into().ok());
        set(&mut config.max_stack, stack);
        set(
            &mut config.max_compile_memory,
            size(&system.max_compile_memory),
        );
        let time = system.max_compile_time.as_ref().map(|time| time.0);
        set(&mut config.max_compile_time, time);
        let resolution = system.clock_resolution.as_ref().map(|time| time.0);
        set(&mut config.clock_resolution, resolution);
        let hibernation = system.hibernate_after.as_ref();
        set(
            &mut config.hibernate_after,
            hibernation.map(|after| after.0.0),
        );
        set(&mut config.grants.handles_max, system.max_handles);
        let granted = self.programs.values().flat_map(|program| &program.rights);
        let granted = granted.fold(Rights::empty(), |all, right| all | right.0);
        config.allow_inspect = granted.contains(Rights::INSPECTION);
        config.allow_debug = granted.contains(Rights::DEBUGGING);
        config.grants.stdin = granted.contains(Rights::STANDARD_INPUT);
        config.grants.dirs = system
            .directories
            .iter()
            .map(DirectoryTable::grant)
            .collect();
        let environment = system.environment.iter();
        config.grants.env = environment
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let network = system.network.as_ref();
        config.grants.net = network.map_or(NetGrant::None, |network| network.0.clone());
    }

    /// Checks the names in the policy. An error is the text's place and what is wrong with it.
    fn check(&self) -> Result<(), (usize, String)> {
        let known = |name: &Spanned<String>| match self.programs.contains_key(name.as_ref()) {
            true => Ok(()),
            false => {
                let text = format!("there is no program `{}` in [programs]", name.as_ref());
                Err((name.span().start, text))
            }
        };
        known(&self.first.program)?;
        for program in self.programs.values() {
            program.programs.iter().try_for_each(known)?;
            for path in program.directories.iter().flatten() {
                let mut granted = self.system.directories.iter();
                if !granted.any(|directory| directory.guest == *path.as_ref()) {
                    let text = format!(
                        "no directory of [[system.directories]] has `guest = {:?}`",
                        path.as_ref()
                    );
                    return Err((path.span().start, text));
                }
            }
        }
        Ok(())
    }
}

fn parse(text: &str, folder: &Path) -> Result<Policy, String> {
    let mut policy: Policy = toml::from_str(text).map_err(|error| error.to_string())?;
    policy.check().map_err(|(at, error)| {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {error}")
    })?;
    for program in policy.programs.values_mut() {
        program.file = folder.join(&program.file);
    }
    for directory in &mut policy.system.directories {
        directory.host = folder.join(&directory.host);
    }
    Ok(policy)
}

impl DirectoryTable {
    fn grant(&self) -> DirGrant {
        DirGrant {
            host: self.host.clone(),
            guest: self.guest.clone(),
            writable: self.writable,
        }
    }
}

impl ProgramTable {
    fn options(&self) -> TreeOptions {
        let names = |names: &[Spanned<String>]| {
            let names = names.iter().map(|name| name.as_ref().as_str().into());
            names.collect::<Vec<Box<str>>>()
        };
        let granted = self
            .rights
            .iter()
            .fold(Rights::empty(), |all, right| all | right.0);
        let mut options = TreeOptions::default();
        options.without = Rights::all() - granted;
        options.programs = Some(names(&self.programs));
        options.directories = self.directories.as_deref().map(names);
        options.network = self.network.as_ref().map(|network| network.0.clone());
        options.own_names = self.own_names;
        options.limits = self.limits.limits();
        options
    }
}

impl LimitsTable {
    fn limits(&self) -> Limits {
        let size = |size: &Option<Size>| size.as_ref().map(|size| size.0);
        let mut limits = Limits::new();
        limits.memory = size(&self.memory);
        limits.mailbox = size(&self.mailbox);
        limits.messages = self.messages;
        limits.overflow = self.on_full_mailbox.as_ref().map(|fate| fate.0);
        limits.ties = self.ties;
        limits.handles = self.handles;
        limits.tree_memory = size(&self.tree_memory);
        limits.processes = self.processes;
        limits.reductions = self.reductions;
        limits.rate = self.rate.as_ref().map(|share| share.0);
        limits.output = size(&self.output);
        limits.output_rate = size(&self.output_rate);
        limits.blocking = self.blocking;
        limits
    }
}

/// A policy for one program that grants it these rights. `spawns` says that it may spawn programs, and `wasi` that it may
/// look for files and so on.
pub fn for_program(name: &str, file: &Path, rights: &[&str], spawns: bool, wasi: bool) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let rights: Vec<_> = rights.iter().map(|right| quoted(right)).collect();
    let mut text = format!(
        "# Run it by `atoll run --policy THIS_FILE`. docs/policies.md describes policies.\n\
         [first]\n\
         program = {name}\n\
         \n\
         [programs.{name}]\n\
         # Relative to the folder of this file.\n\
         file = {file}\n\
         # Its rights. It has no others.\n\
         rights = [{rights}]\n",
        name = quoted(name),
        file = quoted(&file.to_string_lossy()),
        rights = rights.join(", "),
    );
    if wasi {
        text += "# It imports WASI, so it may use \"files\", \"network\", \"environment\" and \"standard-input\" as well.\n";
    }
    if spawns {
        text += "# The programs that it may spawn, beside itself. Each needs a table [programs.NAME].\nprograms = []\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [first]
        program = "main"
        argument = "7"

        [system]
        max-memory = "64MiB"
        hibernate-after = "never"
        network = "127.0.0.1:80,10.0.0.1"

        [[system.directories]]
        host = "files"
        guest = "/data"

        [programs.main]
        file = "main.wasm"
        rights = ["names", "spawning", "files"]
        programs = ["worker"]

        [programs.worker]
        file = "/opt/worker.wasm"
        directories = ["/data"]
        [programs.worker.limits]
        rate = "25%"
        memory = 65536
        on-full-mailbox = "reject"
    "#;

    fn error(text: &str) -> String {
        match parse(text, Path::new("")) {
            Ok(_) => panic!("it is accepted: {text}"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_policy_grants_what_it_says_and_no_more() {
        let policy =
            parse(POLICY, Path::new("/etc/atoll")).unwrap_or_else(|error| panic!("{error}"));
        let mut config = Config::default();
        policy.configure(&mut config);
        assert_eq!(config.max_memory, 64 << 20);
        assert_eq!(config.hibernate_after, None);
        assert_eq!(config.grants.dirs[0].host, Path::new("/etc/atoll/files"));
        assert!(!config.grants.dirs[0].writable && !config.allow_inspect && !config.grants.stdin);
        let programs = policy.programs();
        let [main, worker] = &programs[..] else {
            panic!("there are two programs")
        };
        assert_eq!(main.file, Path::new("/etc/atoll/main.wasm"));
        assert_eq!(worker.file, Path::new("/opt/worker.wasm"));
        assert_eq!(
            Rights::all() - main.options.without,
            Rights::NAMES | Rights::SPAWNING | Rights::FILES
        );
        assert_eq!(worker.options.without, Rights::all());
        assert_eq!(worker.options.limits.rate, Some(250));
        assert_eq!(worker.options.limits.memory, Some(65536));
        assert_eq!(worker.options.programs, Some(Vec::new()));
        assert_eq!(main.options.directories, None);
        assert_eq!(worker.options.directories, Some(vec!["/data".into()]));
        assert_eq!(policy.first().argument, "7");
    }

    #[test]
    fn errors_name_the_line() {
        for (from, to, line, says) in [
            ("max-memory", "max-memroy", 7, "unknown field `max-memroy`"),
            ("64MiB", "64MB", 7, "`MB` is no unit"),
            ("\"names\"", "\"name\"", 17, "`name` is no right"),
            ("25%", "lots", 24, "percent"),
            ("\"reject\"", "\"refuse\"", 26, "drop-newest"),
            (
                "program = \"main\"",
                "program = \"mian\"",
                3,
                "no program `mian`",
            ),
            ("[\"worker\"]", "[\"wrker\"]", 18, "no program `wrker`"),
            ("[\"/data\"]", "[\"/dada\"]", 22, "/dada"),
            ("rate = ", "rate ", 24, "="),
            ("127.0.0.1:80", "localhost:80", 9, "localhost"),
        ] {
            assert!(POLICY.contains(from), "{from}");
            let error = error(&POLICY.replacen(from, to, 1));
            assert!(error.contains(&format!("line {line}")), "{to}: {error}");
            assert!(error.contains(says), "{to}: {error}");
        }
        assert!(error("").contains("first"));
    }

    #[test]
    fn any_text_is_a_policy_or_an_error() {
        let words: Vec<&str> = POLICY.split_inclusive([' ', '\n', '"']).collect();
        arbtest::arbtest(|random| {
            let mut text = POLICY.to_owned();
            for _ in 0..random.int_in_range(0..=4)? {
                let at = random.int_in_range(0..=text.len())?;
                let at = text.floor_char_boundary(at);
                match random.ratio(1, 2)? {
                    true => text.insert_str(at, random.choose(&words)?),
                    false => text.truncate(at),
                }
            }
            if let Err(error) = parse(&text, Path::new("")) {
                assert!(!error.is_empty());
            }
            Ok(())
        });
    }

    #[test]
    fn a_printed_policy_can_be_read() {
        let text = for_program(
            "a \"name\"",
            Path::new("x.wasm"),
            &["names", "timers"],
            true,
            true,
        );
        let policy =
            parse(&text, Path::new("here")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let programs = policy.programs();
        assert_eq!(programs[0].name, "a \"name\"");
        assert_eq!(programs[0].file, Path::new("here/x.wasm"));
        assert_eq!(
            Rights::all() - programs[0].options.without,
            Rights::NAMES | Rights::TIMERS
        );
    }
}
