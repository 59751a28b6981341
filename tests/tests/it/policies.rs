//! Policies: what they grant, what they refuse, and the line of each mistake.

use atoll_tests::{Atoll, Outcome, built_guest, guest};
use std::path::Path;

/// `atoll run --policy` on a policy in a folder with these files.
fn run(policy: &str, files: &[(&str, String)], words: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("the folder can be written to");
    };
    write("policy.toml", policy);
    for (name, text) in files {
        write(name, text);
    }
    let path = folder.path().join("policy.toml");
    let mut all = vec![
        "run".into(),
        "--no-cache".into(),
        "--policy".into(),
        path.into_os_string(),
    ];
    all.extend(words.iter().map(Into::into));
    Atoll::words(all).outcome()
}

const TWO_PROGRAMS: &str = r#"
[first]
program = "main"

[programs.main]
file = "main.wat"
rights = ["spawning"]
programs = ["other"]

[programs.other]
file = "other.wat"
rights = []
"#;

/// The line that [`spawns_other`] prints if there is no error.
const SPAWNED: &str = "4294967295\n";

/// Prints the case of the error of spawning `other`, or -1.
fn spawns_other() -> String {
    guest(
        "(func (export \"run\")
           (call $print-number (call $try-start-in %\"other\" %\"run\" (i32.const 256))))",
    )
}

/// It imports a function of names, so it needs the right to them.
fn with_names() -> String {
    "(module
       (import \"atoll-rt:process/names@0.2.0\" \"whereis\" (func (param i32 i32 i32)))
       (memory (export \"memory\") 1)
       (func (export \"run\")))"
        .to_owned()
}

#[test]
fn a_program_does_what_its_policy_grants() {
    let other = "(module (func (export \"run\")))".to_owned();
    let files = [("main.wat", spawns_other()), ("other.wat", other)];
    run(TWO_PROGRAMS, &files, &[]).code(0).stdout(SPAWNED);
    // Not granted is case 6.
    let alone = TWO_PROGRAMS.replace("programs = [\"other\"]", "");
    run(&alone, &files, &[]).code(0).stdout("6\n");
}

#[test]
fn a_program_that_asks_for_more_is_refused_by_name() {
    let files = [("main.wat", spawns_other()), ("other.wat", with_names())];
    run(TWO_PROGRAMS, &files, &[])
        .code(1)
        .stdout("")
        .stderr_has("other.wat` can't be loaded")
        .stderr_has("atoll-rt:process/names@0.2.0");
    // The first program has to have the right, too: nobody passes on what it does not have.
    let granted = TWO_PROGRAMS.replace("rights = []", "rights = [\"names\"]");
    run(&granted, &files, &[]).code(0).stdout("6\n");
    let granted = granted.replace("[\"spawning\"]", "[\"spawning\", \"names\"]");
    run(&granted, &files, &[]).code(0).stdout(SPAWNED);
    let unspawning = TWO_PROGRAMS.replace("rights = [\"spawning\"]", "");
    run(&unspawning, &files, &[])
        .code(1)
        .stderr_has("main.wat` can't be loaded")
        .stderr_has("atoll-rt:process/spawning@0.2.0");
}

#[test]
fn mistakes_are_named_with_their_lines() {
    let files = [("main.wat", spawns_other()), ("other.wat", with_names())];
    for (from, to, says) in [
        ("rights = []", "rights = [\"all\"]", "line 12"),
        (
            "rights = []",
            "rights = [\"all\"]",
            "the rights are: signals, names",
        ),
        ("[programs.main]", "[program.main]", "line 5"),
        (
            "program = \"main\"",
            "program = \"mian\"",
            "line 3: there is no program `mian`",
        ),
        (
            "file = \"other.wat\"",
            "file = \"no.wat\"",
            "no.wat` can't be read",
        ),
        ("file = \"other.wat\"\n", "", "missing field `file`"),
        ("[first]", "[first", "line 2"),
    ] {
        run(&TWO_PROGRAMS.replacen(from, to, 1), &files, &[])
            .code(1)
            .stdout("")
            .stderr_has(says);
    }
    Atoll::words(["run", "--policy", "/nowhere/policy.toml"])
        .outcome()
        .code(1)
        .stderr_has("/nowhere/policy.toml` can't be read")
        .stderr_has("atoll inspect --policy");
    Atoll::words(["run", "--max-memory", "1MiB", "--policy", "x"])
        .outcome()
        .code(2)
        .stderr_has("cannot be used with");
}

#[test]
fn a_printed_policy_runs_its_program() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("supervisor.toml");
    let file = built_guest("supervisor.wasm");
    let printed = Atoll::words(["inspect".as_ref(), "--policy".as_ref(), file.as_os_str()])
        .outcome()
        .code(0)
        .stderr("");
    assert!(
        printed
            .stdout
            .contains("rights = [\"signals\", \"spawning\"]"),
        "{printed}"
    );
    std::fs::write(&path, &printed.stdout).expect("the folder can be written to");
    let ran = Atoll::words([
        "run".as_ref(),
        "--no-cache".as_ref(),
        "--policy".as_ref(),
        path.as_os_str(),
    ]);
    ran.outcome()
        .code(0)
        .stdout_has("the supervisor has ended: shutdown");
    // With one right less it is refused.
    let less = printed.stdout.replace("\"signals\", ", "");
    std::fs::write(&path, less).expect("the folder can be written to");
    let refused = Atoll::words(["run".as_ref(), "--policy".as_ref(), path.as_os_str()]);
    refused
        .outcome()
        .code(1)
        .stderr_has("atoll-rt:process/signals@0.2.0");
}

#[test]
fn the_policy_of_the_example_fits_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let policy = root.join("guests/rust/supervisor/policy.toml");
    let text = std::fs::read_to_string(policy).expect("the example has a policy");
    // The tests' guests may lie elsewhere.
    let file = format!("file = {:?}", built_guest("supervisor.wasm"));
    let text = text.replace("file = \"../../../target/guests/supervisor.wasm\"", &file);
    assert!(text.contains(&file), "{text}");
    run(&text, &[], &[])
        .code(0)
        .stdout_has("the supervisor has ended: shutdown");
}

#[test]
fn the_end_says_what_was_spent() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("main.wat");
    std::fs::write(&path, spawns_other()).expect("the folder can be written to");
    let words = [
        "run",
        "--stats",
        "--max-reductions",
        "1000000",
        "--max-output",
        "1KiB",
        "--max-rate",
        "80%",
    ];
    let mut words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
    words.push(path.into());
    Atoll::words(words)
        .outcome()
        .code(0)
        .stderr_has(" reductions spent and ")
        .stderr_has("2 bytes of output spent and 1022 left, at most 80% of a core");
}
