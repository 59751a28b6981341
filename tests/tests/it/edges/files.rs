//! Files without names, names with slashes, FIFOs without a writer, and standard input that other programs share.

use super::{granting, guest, temporary_folder};
use atoll_tests::{Atoll, Fifo, Signal};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixListener;

/// Performs each of these operations, in a folder with a file `file`, the folders `empty` and `full` (which has a folder
/// `inner`), and two links: `link` to the file, `round` to itself. Each operation returns the expected error number.
#[track_caller]
fn check_errors(cases: &[(&str, i32)]) {
    let folder = temporary_folder();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "text").expect("it can be written");
    fs::create_dir(path("empty")).expect("it can be made");
    fs::create_dir_all(path("full/inner")).expect("it can be made");
    for (link, target) in [("link", "file"), ("round", "round")] {
        std::os::unix::fs::symlink(target, path(link)).expect("it can be made");
    }
    let run: String = cases
        .iter()
        .map(|(call, _)| format!("(call $print-number {call})\n"))
        .collect();
    let outcome = granting(
        Atoll::run(guest(&format!("(func (export \"run\") {run})"))),
        folder.path(),
    )
    .outcome()
    .code(0)
    .stderr("");
    let errors: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(errors.len(), cases.len(), "\n{outcome}");
    let wrong: Vec<_> = errors
        .iter()
        .zip(cases)
        .filter(|(error, (_, right))| **error != right.to_string())
        .collect();
    assert!(
        wrong.is_empty(),
        "an error, the call and what is right: {wrong:#?}"
    );
}

fn rename(from: &str, to: &str) -> String {
    format!("(call $path_rename (i32.const 3) %\"{from}\" (i32.const 3) %\"{to}\")")
}

#[test]
fn files_and_folders_are_told_apart() {
    let long = "n".repeat(300);
    // EEXIST is 20, EINVAL 28, EISDIR 31, ELOOP 32, ENAMETOOLONG 37, ENOTDIR 54, ENOTEMPTY 55.
    check_errors(&[
        ("(call $open %\"file\" (i32.const 5) (i64.const 66))", 20),
        ("(call $open %\"empty\" (i32.const 0) (i64.const 64))", 31),
        ("(call $open %\"file\" (i32.const 2) (i64.const 2))", 54),
        ("(call $open %\"file/\" (i32.const 0) (i64.const 2))", 54),
        ("(call $open %\"file/x\" (i32.const 0) (i64.const 2))", 54),
        ("(call $open %\"round\" (i32.const 0) (i64.const 2))", 32),
        (
            &format!("(call $open %\"{long}\" (i32.const 1) (i64.const 66))"),
            37,
        ),
        ("(call $path_unlink_file (i32.const 3) %\"empty\")", 31),
        ("(call $path_remove_directory (i32.const 3) %\"file\")", 54),
        ("(call $path_remove_directory (i32.const 3) %\"full\")", 55),
        (&rename("file", "empty"), 31),
        (&rename("empty", "file"), 54),
        (&rename("full", "full/inner/x"), 28),
        // The call follows no link.
        (
            "(call $path_open (i32.const 3) (i32.const 0) %\"link\"
               (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 3012))",
            32,
        ),
    ]);
}

#[test]
fn folders_whose_names_end_in_a_slash() {
    check_errors(&[
        ("(call $path_create_directory (i32.const 3) %\"new/\")", 0),
        ("(call $open %\"new/\" (i32.const 2) (i64.const 0x4000))", 0),
        ("(call $path_remove_directory (i32.const 3) %\"new/\")", 0),
        ("(call $path_remove_directory (i32.const 3) %\"new\")", 44),
        (&rename("full/inner/", "moved/"), 0),
        (
            "(call $path_remove_directory (i32.const 3) %\"moved//\")",
            0,
        ),
    ]);
}

#[test]
fn names_that_lead_elsewhere_and_back() {
    check_errors(&[
        (
            "(call $open %\"empty/../file\" (i32.const 0) (i64.const 2))",
            0,
        ),
        ("(call $open %\"link\" (i32.const 0) (i64.const 2))", 0),
        (&rename("full/inner", "empty"), 0),
        (
            "(call $path_symlink %\"file\" (i32.const 3) %\"another\")",
            0,
        ),
        ("(call $open %\"another\" (i32.const 0) (i64.const 2))", 0),
    ]);
}

#[test]
fn a_file_without_a_name_is_still_a_file() {
    let body = "(func (export \"run\")
          (local $old i32) (local $new i32)
          (call $must (i32.eqz (call $open %\"name\" (i32.const 5) (i64.const 66))))
          (local.set $old (call $opened))
          (call $must (i32.eqz (call $write-to (local.get $old) %\"old\")))
          (call $must (i32.eqz (call $path_unlink_file (i32.const 3) %\"name\")))
          (call $must (i32.eqz (call $write-to (local.get $old) (i32.const 0x10000) (i32.const 4096))))
          ;; Its state: no links, and its size.
          (call $must (i32.eqz (call $fd_filestat_get (local.get $old) (i32.const 3136))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 3160))))
          (call $print-number (i32.wrap_i64 (i64.load (i32.const 3168))))
          ;; The name is free, and another file gets it.
          (call $must (i32.eqz (call $open %\"name\" (i32.const 5) (i64.const 66))))
          (local.set $new (call $opened))
          (call $must (i32.eqz (call $write-to (local.get $new) %\"new\")))
          (call $show (local.get $old))
          (call $show (local.get $new))
          ;; A third file takes the name of the second, which still exists as well.
          (call $must (i32.eqz (call $open %\"third\" (i32.const 5) (i64.const 66))))
          (call $must (i32.eqz
            (call $path_rename (i32.const 3) %\"third\" (i32.const 3) %\"name\")))
          (call $must (i32.eqz (call $write-to (call $opened) %\"3rd\")))
          (call $show (local.get $new))
          (call $show (call $opened)))
        ;; Prints the first three bytes of a file.
        (func $show (param $file i32)
          (call $must (i32.eqz
            (call $fd_seek (local.get $file) (i64.const 0) (i32.const 0) (i32.const 3200))))
          (call $must (i32.eqz (call $read-from (local.get $file) (i32.const 1024) (i32.const 3))))
          (call $print (i32.const 1024) (call $count)))";
    let folder = temporary_folder();
    granting(Atoll::run(guest(body)), folder.path())
        .outcome()
        .code(0)
        .stdout("0\n4099\nold\nnew\nnew\n3rd\n")
        .stderr("");
    let text = fs::read_to_string(folder.path().join("name")).expect("it is there");
    assert_eq!(text, "3rd");
}

#[test]
fn transfers_of_nothing_succeed_at_once() {
    let calls = [
        // Standard input holds no bytes and does not end.
        "(call $read-from (i32.const 0) (i32.const 1024) (i32.const 0))",
        "(call $fd_read (i32.const 0) (i32.const 3000) (i32.const 0) (i32.const 3008))",
        "(call $read-from (call $opened) (i32.const 1024) (i32.const 0))",
        "(call $fd_read (call $opened) (i32.const 3000) (i32.const 0) (i32.const 3008))",
        "(call $fd_pread (call $opened) (i32.const 3000) (i32.const 1) (i64.const 0) (i32.const 3008))",
        "(call $write-to (i32.const 1) (i32.const 1024) (i32.const 0))",
        "(call $fd_write (i32.const 1) (i32.const 3000) (i32.const 0) (i32.const 3008))",
        "(call $write-to (call $opened) (i32.const 1024) (i32.const 0))",
    ];
    let run: String = calls
        .iter()
        .map(|call| format!("(call $print-number {call}) (call $print-number (call $count))\n"))
        .collect();
    let body = format!(
        "(func (export \"run\")
           (call $must (i32.eqz (call $open %\"file\" (i32.const 0) (i64.const 66)))) {run})"
    );
    let folder = temporary_folder();
    fs::write(folder.path().join("file"), "text").expect("it can be written");
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    granting(Atoll::run(guest(&body)), folder.path())
        .stdin_from(reader)
        .outcome()
        .code(0)
        .stdout(&"0\n0\n".repeat(calls.len()))
        .stderr("");
    drop(writer);
}

/// Main has some children open a FIFO that has no writer, and reads a plain file beside them. Then a signal ends the program.
#[track_caller]
fn check_beside_fifo(children: u32) {
    let body = format!(
        "(func (export \"stuck\")
           (call $parent (i32.const 256))
           (call $post (i32.const 256) (i32.const 7))
           (drop (call $open %\"fifo\" (i32.const 0) (i64.const 2)))
           (call $print %\"the FIFO was opened\"))
         (func (export \"run\")
           (local $count i32)
           (loop $next
             (call $start %\"stuck\" (i32.const 256))
             (br_if $next (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {children}))))
           (loop $each
             (call $take (i32.const 7))
             (br_if $each (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
           ;; Each child has had a turn meanwhile, in which it opened the FIFO.
           (loop $turns
             (call $yield-now)
             (br_if $turns (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 200))))
           (call $must (i32.eqz (call $open %\"plain\" (i32.const 0) (i64.const 2))))
           (call $must (i32.eqz (call $read-from (call $opened) (i32.const 1024) (i32.const 100))))
           (call $print (i32.const 1024) (call $count))
           (drop (call $take-any)))"
    );
    let folder = temporary_folder();
    fs::write(folder.path().join("plain"), "a plain file").expect("it can be written");
    let _fifo = Fifo::new(folder.path().join("fifo"));
    let mut running = granting(Atoll::run(guest(&body)), folder.path())
        .options(["--grace", "100ms"])
        .start();
    running.until_stdout("a plain file\n");
    running.signal(Signal::TERM);
    running
        .outcome()
        .stopped_by(Signal::TERM)
        .stdout("a plain file\n");
}

#[test]
fn a_plain_file_is_read_beside_one_process_at_a_fifo() {
    check_beside_fifo(1);
}

#[test]
fn a_plain_file_is_read_beside_as_many_processes_at_a_fifo_as_there_are_threads() {
    check_beside_fifo(64);
}

#[test]
fn a_plain_file_is_read_beside_hundreds_of_processes_at_a_fifo() {
    check_beside_fifo(400);
}

#[test]
fn non_blocking_input_loses_nothing() {
    // Some programs leave a shared pipe in this mode.
    let (reader, mut writer) = io::pipe().expect("a pipe can be made");
    let flags = fcntl_getfl(&reader).expect("a pipe has flags");
    fcntl_setfl(&reader, flags | OFlags::NONBLOCK).expect("they can be set");
    // The guest prints the bytes that it reads, and at the end their number.
    let body = "(func (export \"run\")
          (local $total i32)
          (call $print %\"ready\")
          (block $end
            (loop $again
              (call $must (i32.eqz (call $read-from (i32.const 0) (i32.const 1024) (i32.const 400))))
              (br_if $end (i32.eqz (call $count)))
              (local.set $total (i32.add (local.get $total) (call $count)))
              (call $must (i32.eqz (call $write (i32.const 1024) (call $count))))
              (br $again)))
          (call $print-number (local.get $total)))";
    let mut running = Atoll::run(guest(body)).stdin_from(reader).start();
    running.until_stdout("ready\n");
    let mut expected = String::from("ready\n");
    for round in 0..50 {
        // The guest has read all bytes before the test writes more.
        let line = format!("round {round}\n");
        // If the guest has ended, the outcome shows the reason.
        let _ = writer.write_all(line.as_bytes());
        running.until_stdout(&line);
        expected += &line;
    }
    drop(writer);
    let total = expected.len() - "ready\n".len();
    running
        .outcome()
        .code(0)
        .stdout(&format!("{expected}{total}\n"))
        .stderr("");
}

#[test]
fn the_state_of_a_socket_can_be_asked_for() {
    // WASI 0.1 has two types of sockets, and the host can't tell which one this is. So the type is unknown.
    let folder = temporary_folder();
    let _socket = UnixListener::bind(folder.path().join("socket")).expect("it can be made");
    let body = "(func (export \"run\")
          (call $print-number (call $path_filestat_get (i32.const 3) (i32.const 0) %\"socket\" (i32.const 3136)))
          (call $print-number (i32.load8_u (i32.const 3152))))";
    granting(Atoll::run(guest(body)), folder.path())
        .outcome()
        .code(0)
        .stdout("0\n0\n");
}
