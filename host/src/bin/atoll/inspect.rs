//! `atoll inspect`: describes a file, for people and for programs.

use crate::arguments::Inspect;
use crate::policy;
use crate::run::{names, not_loaded, read};
use crate::{Failure, written};
use atoll_rt::{ImportStatus, Inspection, Path, Rights, printable_name};
use std::fmt::Write as _;
use std::io::Write as _;

pub fn inspect(options: &Inspect) -> Result<(), Failure> {
    let bytes = read(&options.file)?;
    let inspection = Inspection::of(&bytes).map_err(|error| not_loaded(&options.file, &error))?;
    let text = if options.json {
        json(&inspection)
    } else if options.policy {
        policy_text(&options.file, &inspection)
    } else {
        table(&inspection)
    };
    let mut stdout = std::io::stdout().lock();
    written(
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    )
}

/// A policy that grants what the program imports.
fn policy_text(file: &std::path::Path, inspection: &Inspection) -> String {
    let name = file.file_stem().map(|stem| stem.to_string_lossy());
    let rights: Vec<_> = inspection.needs.names().collect();
    let spawns = inspection.needs.contains(Rights::SPAWNING);
    let mut imports = inspection.imports.iter();
    let wasi = imports.any(|import| import.status == ImportStatus::Wasi);
    policy::for_program(
        name.as_deref().unwrap_or("main"),
        file,
        &rights,
        spawns,
        wasi,
    )
}

fn path(path: Path) -> &'static str {
    match path {
        Path::Flattened => "flattened",
        Path::Component => "component",
    }
}

fn world(inspection: &Inspection) -> &'static str {
    match inspection.entry.as_deref() {
        Some("run") => "atoll-rt:process/process",
        Some("_start" | "wasi:cli/run") => "wasi:cli/command",
        _ => "none that can be run",
    }
}

fn status(status: ImportStatus) -> &'static str {
    match status {
        ImportStatus::Contract => "atoll",
        ImportStatus::Wasi => "wasi",
        ImportStatus::Unknown => "unknown",
    }
}

fn table(inspection: &Inspection) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("path", path(inspection.path));
    line("why", &inspection.why);
    line("world", world(inspection));
    line(
        "entry",
        inspection
            .entry
            .as_deref()
            .unwrap_or("none: it can't be run"),
    );
    if let Some((minimum, maximum)) = inspection.memory {
        let kib = |bytes: u64| format!("{} KiB", bytes >> 10);
        line(
            "memory",
            &format!(
                "{}, at most {}",
                kib(minimum),
                maximum.map_or("the limit of a process".into(), kib)
            ),
        );
    }
    line(
        "instances",
        &inspection.used_once.map_or_else(
            || "recycled: made as new when a process returns, for the next".to_owned(),
            |why| format!("used once: {why}"),
        ),
    );
    line("functions", &names(&inspection.functions));
    let rights = inspection.needs.to_string();
    line("rights", if rights.is_empty() { "none" } else { &rights });
    for (index, import) in inspection.imports.iter().enumerate() {
        let provided = match import.status {
            ImportStatus::Contract => "provided by atoll",
            ImportStatus::Wasi => {
                "provided as WASI; files and network only as granted to `atoll run`"
            }
            ImportStatus::Unknown => "NOT PROVIDED: the program can't be loaded",
        };
        let name = if import.name.is_empty() {
            printable_name(&import.module)
        } else {
            format!(
                "{} {}",
                printable_name(&import.module),
                printable_name(&import.name)
            )
        };
        line(
            if index == 0 { "imports" } else { "" },
            &format!("{name}: {provided}"),
        );
    }
    text
}

fn json(inspection: &Inspection) -> String {
    let imports: Vec<_> = inspection
        .imports
        .iter()
        .map(|import| serde_json::json!({ "module": import.module, "name": import.name, "provider": status(import.status) }))
        .collect();
    let value = serde_json::json!({
        "path": path(inspection.path),
        "why": inspection.why,
        "world": world(inspection),
        "entry": inspection.entry,
        "memory": inspection.memory.map(|(minimum, maximum)| serde_json::json!({ "minimum": minimum, "maximum": maximum })),
        "usedOnce": inspection.used_once,
        "functions": inspection.functions,
        "rights": inspection.needs.names().collect::<Vec<_>>(),
        "imports": imports,
    });
    format!("{value:#}\n")
}
