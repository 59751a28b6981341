//! Paths and arguments that are not text. The operating system allows them.

use super::{guest, temporary_folder};
use atoll_tests::Atoll;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

/// "café" in Latin-1.
fn no_text() -> &'static OsStr {
    OsStr::from_bytes(b"caf\xe9")
}

/// Exits with 7 if the file `file` of the first granted directory can be opened.
const OPENS: &str = "(func (export \"run\")
      (call $must (i32.eqz (call $open %\"file\" (i32.const 0) (i64.const 2))))
      (call $proc_exit (i32.const 7)))";

const SEVEN: &str = "(func (export \"run\") (call $proc_exit (i32.const 7)))";

#[test]
fn a_program_in_a_folder_whose_name_is_no_text() {
    let folder = temporary_folder();
    let inner = folder.path().join(no_text());
    fs::create_dir(&inner).expect("it can be made");
    for name in [OsStr::new("main.wat"), no_text()] {
        let path = inner.join(name);
        fs::write(&path, guest(SEVEN)).expect("it can be written");
        Atoll::run_file(&path).outcome().code(7).stderr("");
        let outcome = Atoll::words([OsStr::new("inspect"), path.as_os_str()]).outcome();
        outcome.code(0).stderr("");
    }
}

#[test]
fn another_program_in_a_folder_whose_name_is_no_text() {
    let folder = temporary_folder();
    let inner = folder.path().join(no_text());
    fs::create_dir(&inner).expect("it can be made");
    let path = inner.join("other.wat");
    fs::write(&path, guest(SEVEN)).expect("it can be written");
    let mut word = OsString::from("other=");
    word.push(&path);
    Atoll::run(guest(SEVEN))
        .option("--program")
        .option(word)
        .outcome()
        .code(7)
        .stderr("");
}

#[test]
fn a_granted_folder_whose_name_is_no_text() {
    let folder = temporary_folder();
    let inner = folder.path().join(no_text());
    fs::create_dir(&inner).expect("it can be made");
    fs::write(inner.join("file"), "text").expect("it can be written");
    for how in ["::/data", "::/data:ro"] {
        let mut grant = inner.as_os_str().to_owned();
        grant.push(how);
        Atoll::run(guest(OPENS))
            .option("--dir")
            .option(grant)
            .outcome()
            .code(7)
            .stderr("");
    }
}

#[test]
fn an_argument_that_is_no_text_is_passed_on_or_refused() {
    let outcome = Atoll::run(guest(SEVEN)).arg(no_text()).outcome();
    if outcome.code != Some(7) {
        // The message must name the fault.
        outcome.fails_with_a_message().stderr_has("UTF-8");
    }
}

#[test]
fn a_variable_that_is_no_text_is_passed_on_or_refused() {
    let outcome = Atoll::run(guest(SEVEN))
        .env("PASSED", no_text())
        .options(["--env", "PASSED"])
        .outcome();
    if outcome.code != Some(7) {
        outcome.fails_with_a_message().stderr_has("UTF-8");
    }
}
