//! `atoll inspect`: describes a file, for people and for programs.

use crate::arguments::Inspect;
use crate::run::{names, not_loaded, read};
use crate::{Failure, written};
use atoll_rt::{ImportStatus, Inspection, Path, printable_name};
use std::fmt::Write as _;
use std::io::Write as _;

pub fn inspect(options: &Inspect) -> Result<(), Failure> {
    let bytes = read(&options.file)?;
    let inspection = Inspection::of(&bytes).map_err(|error| not_loaded(&options.file, &error))?;
    let text = if options.json {
        json(&inspection)
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
        "imports": imports,
    });
    format!("{value:#}\n")
}
