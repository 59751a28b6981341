//! `atoll fuzz`: what users see of it, and everything that it has ever found.

use atoll_tests::Atoll;
use std::path::Path;

fn fuzz(options: &[&str]) -> Atoll {
    Atoll::words(["fuzz"].iter().chain(options).copied())
}

#[test]
fn a_short_run_finds_nothing_and_says_what_it_did() {
    let findings = tempfile::tempdir().unwrap();
    let folder = findings.path().display().to_string();
    fuzz(&["--time", "4", "--seed", "7", "--findings", &folder])
        .outcome()
        .code(0)
        .stdout_has("seed 7\n")
        .stdout_has("host calls")
        .stdout_has("worst wait of a canary")
        .stdout_has("mailbox/send")
        .stdout_has("\n0 findings");
    assert!(!findings.path().exists(), "a folder without findings stays");
}

#[test]
fn a_program_that_crashes_is_no_good_canary_and_its_finding_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("crash.wat");
    std::fs::write(&program, "(module (func (export \"run\") unreachable))").unwrap();
    let findings = folder.path().join("findings").display().to_string();
    let program = program.display().to_string();
    fuzz(&[
        "--time",
        "1",
        "--program",
        &program,
        "--as",
        "canary",
        "--findings",
        &findings,
    ])
    .outcome()
    .code(1)
    .stdout_has("finding: canary: own program: trap")
    .stdout_has("atoll fuzz --replay ");
    let finding = std::fs::read_dir(&findings)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!(finding.path().join("report.md").is_file());
    let finding = finding.path().display().to_string();
    fuzz(&["--replay", &finding])
        .outcome()
        .code(1)
        .stdout_has("canary: own program: trap");
}

#[test]
fn wrong_options_are_told() {
    fuzz(&["--time", "never"]).outcome().code(2);
    fuzz(&["--time", "18446744073709551615"])
        .outcome()
        .code(2)
        .stderr_has("at most a year");
    fuzz(&["--jobs", "0"])
        .outcome()
        .code(2)
        .stderr_has("1..=256");
    fuzz(&["--findings", "/proc/none"])
        .outcome()
        .code(1)
        .stderr_has("hint: name another folder with --findings");
    fuzz(&["--as", "canary"])
        .outcome()
        .code(2)
        .stderr_has("--program");
    fuzz(&["--program", "/no/such.wasm"])
        .outcome()
        .code(1)
        .stderr_has("/no/such.wasm can't be read");
    fuzz(&["--replay", "/no/such"])
        .outcome()
        .code(1)
        .stderr_has("hint: give a folder that `atoll fuzz` has saved");
    fuzz(&["--break", "all"])
        .outcome()
        .code(1)
        .stderr_has("cargo xtask fuzz --break NAME");
}

#[test]
fn nothing_that_was_found_once_is_found_again() {
    let findings = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    for finding in std::fs::read_dir(&findings).unwrap() {
        let path = finding.unwrap().path();
        if path.is_dir() {
            let path = path.display().to_string();
            fuzz(&["--replay", &path]).outcome().code(0);
        }
    }
}
