//! Processes that end badly, in three places each: as main, beside a neighbour in the same program, and beside one in another
//! program that imports no WASI.

use atoll_tests::{Atoll, Guest, Outcome};

/// A process that ends badly.
pub struct Offender<'a> {
    /// Its function's name.
    pub name: &'a str,
    /// Its body.
    pub body: &'a str,
    /// The text in its crash report.
    pub reason: &'a str,
}

/// The exit code of a main that ends this way.
fn code(reason: &str) -> i32 {
    match reason.split_once(':') {
        Some(("trap", _)) => 134,
        Some(("exhausted", _)) => 138,
        _ => panic!("`{reason}` is no crash"),
    }
}

/// Each offender ends for its reason, and Atoll reports it. As main it ends the program with the right code. Its neighbour
/// goes on answering.
#[track_caller]
pub fn check(offenders: &[Offender<'_>]) {
    check_with(&Guest::default(), &[], offenders);
}

/// The same for a guest of other pieces than usual, with options. Its body holds declarations for the offenders.
#[track_caller]
pub fn check_with(pieces: &Guest<'_>, options: &[&str], offenders: &[Offender<'_>]) {
    let mut functions = pieces.body.to_owned();
    for Offender { name, body, .. } in offenders {
        functions += &format!("(func $the-{name} (export \"{name}\") {body})\n");
    }
    let guest = |wasi: bool, run: &str| {
        let body = format!("{functions}\n(func (export \"run\") {run})");
        Guest {
            wasi,
            imports: pieces.imports,
            memory: pieces.memory,
            realloc: pieces.realloc,
            body: &body,
        }
        .text()
    };

    let bare = guest(false, "");
    for Offender { name, reason, .. } in offenders {
        Atoll::run(&bare)
            .options(options)
            .options(["--function", name])
            .outcome()
            .code(code(reason))
            .stdout("")
            .crash(name, reason);
    }
    // The neighbour and main are built as usual, for any pieces of the offenders.
    let main = atoll_tests::guest(&main(offenders, "other"));
    let outcome = Atoll::run(main)
        .program("other", &bare)
        .options(options)
        .outcome();
    check_neighbour(outcome, offenders);
    let outcome = Atoll::run(guest(true, &run(offenders, "")))
        .options(options)
        .outcome();
    check_neighbour(outcome, offenders);
}

/// The same for bodies, each with its trap's text, or with the budget that it exhausts: `exhausted: …`.
#[track_caller]
pub fn check_traps<T: AsRef<str>>(pieces: &Guest<'_>, options: &[&str], cases: &[(T, T)]) {
    let named = cases.iter().enumerate().map(|(index, (body, text))| {
        let text = text.as_ref();
        let reason = match text.starts_with("exhausted: ") {
            true => text.to_owned(),
            false => format!("trap: {text}"),
        };
        (format!("case-{index}"), body.as_ref(), reason)
    });
    let named: Vec<_> = named.collect();
    let offenders = named
        .iter()
        .map(|(name, body, reason)| Offender { name, body, reason });
    check_with(pieces, options, &offenders.collect::<Vec<_>>());
}

fn main(offenders: &[Offender<'_>], program: &str) -> String {
    format!("(func (export \"run\") {})", run(offenders, program))
}

/// Main calls a neighbour before the first offender, and after each.
fn run(offenders: &[Offender<'_>], program: &str) -> String {
    let mut run = String::from(
        "(call $start %\"neighbour\" (i32.const 256))
         (call $must (i32.eq (call $ask (i32.const 256)) (i32.const 1)))",
    );
    for (number, Offender { name, .. }) in (2..).zip(offenders) {
        run += &format!(
            "(call $must (i32.eq (i32.const -1)
               (call $try-start-in %\"{program}\" %\"{name}\" (i32.const 272))))
             (call $await-end (i32.const 272))
             (call $must (i32.eq (call $ask (i32.const 256)) (i32.const {number})))"
        );
    }
    run + "(call $print %\"the neighbour answers\")"
}

#[track_caller]
fn check_neighbour(outcome: Outcome, offenders: &[Offender<'_>]) {
    let outcome = outcome.code(0).stdout("the neighbour answers\n");
    // The order is open: each scheduler writes the reports of the processes that end on it.
    let mut reported: Vec<_> = outcome
        .crashes()
        .into_iter()
        .map(|crash| (crash.function, crash.reason))
        .collect();
    let mut expected: Vec<_> = offenders
        .iter()
        .map(|offender| (offender.name.to_owned(), offender.reason.to_owned()))
        .collect();
    reported.sort();
    expected.sort();
    assert!(
        reported == expected,
        "the crashes are not {expected:#?}\n{outcome}"
    );
}
