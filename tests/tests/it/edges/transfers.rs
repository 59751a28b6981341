//! Transfers of more than 128 MiB in one call: they succeed in whole or in part, without an error.

use super::{granting, guest_with_pages, temporary_folder};
use atoll_tests::Atoll;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

/// The number of bytes that the guest asks for in one call. The host may transfer fewer.
const BYTES: u32 = 129 << 20;

/// Reads or writes a memory's part of [`BYTES`] at 0x30000. Prints the number of the first error, or the last byte if there
/// is none. Written bytes begin with `a` and end in `z`.
fn transferring(prepare: &str, transfer: &str, file: &str) -> String {
    let end = 0x30000 + BYTES;
    let body = format!(
        "(func (export \"run\")
           (local $at i32) (local $error i32)
           {prepare}
           (local.set $at (i32.const 0x30000))
           (loop $again
             (local.set $error
               (call ${transfer} {file} (local.get $at) (i32.sub (i32.const {end}) (local.get $at))))
             (if (local.get $error)
               (then (call $tell %\"error\" (local.get $error)) (return)))
             (if (i32.eqz (call $count))
               (then
                 (call $tell %\"ends after\" (i32.sub (local.get $at) (i32.const 0x30000)))
                 (return)))
             (local.set $at (i32.add (local.get $at) (call $count)))
             (br_if $again (i32.lt_u (local.get $at) (i32.const {end}))))
           (call $tell %\"last byte\" (i32.load8_u (i32.const {last}))))
         ;; The report goes to standard error, because standard output may be the file.
         (func $tell (param $at i32) (param $bytes i32) (param $number i32)
           (local $digits i32)
           (local.set $digits (i32.const 1023))
           (loop $digit
             (local.set $digits (i32.sub (local.get $digits) (i32.const 1)))
             (i32.store8 (local.get $digits)
               (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
             (br_if $digit (local.tee $number (i32.div_u (local.get $number) (i32.const 10)))))
           (drop (call $try-print (i32.const 2) (local.get $at) (local.get $bytes)))
           (drop (call $try-print (i32.const 2)
             (local.get $digits) (i32.sub (i32.const 1023) (local.get $digits)))))",
        last = end - 1,
    );
    // The part uses some of the last page, and the prelude needs two.
    guest_with_pages(end.div_ceil(1 << 16), &body)
}

const FILL: &str = "(i32.store8 (i32.const 0x30000) (i32.const 97))
    (i32.store8 (i32.const LAST) (i32.const 122))";

fn filled() -> String {
    FILL.replace("LAST", &(0x30000 + BYTES - 1).to_string())
}

/// Everything has been written, and 122 is `z`.
const DONE: &str = "last byte\n122\n";

#[track_caller]
fn check_written(mut file: File) {
    let length = file.metadata().expect("it is open").len();
    assert_eq!(length, u64::from(BYTES));
    let mut ends = [0; 2];
    for (end, place) in ends.iter_mut().zip([SeekFrom::Start(0), SeekFrom::End(-1)]) {
        file.seek(place).expect("it is a file");
        file.read_exact(std::slice::from_mut(end))
            .expect("it can be read");
    }
    assert_eq!(ends, *b"az");
}

/// A file with this many bytes, the last of them a `z`.
fn large_file(path: &std::path::Path) -> File {
    use std::os::unix::fs::FileExt as _;
    let file = File::create(path).expect("it can be made");
    file.write_at(b"z", u64::from(BYTES) - 1)
        .expect("it can be written");
    File::open(path).expect("it is there")
}

#[test]
fn a_large_write_to_a_file() {
    let folder = temporary_folder();
    let open = "(call $must (i32.eqz (call $open %\"file\" (i32.const 1) (i64.const 64))))";
    let guest = transferring(
        &format!("{} {open}", filled()),
        "write-to",
        "(call $opened)",
    );
    granting(Atoll::run(guest), folder.path())
        .outcome()
        .code(0)
        .stderr(DONE);
    check_written(File::open(folder.path().join("file")).expect("it is there"));
}

#[test]
fn a_large_read_of_a_file() {
    let folder = temporary_folder();
    large_file(&folder.path().join("file"));
    let open = "(call $must (i32.eqz (call $open %\"file\" (i32.const 0) (i64.const 2))))";
    let guest = transferring(open, "read-from", "(call $opened)");
    granting(Atoll::run(guest), folder.path())
        .outcome()
        .code(0)
        .stderr(DONE);
}

#[test]
fn a_large_write_to_standard_output() {
    let folder = temporary_folder();
    let path = folder.path().join("file");
    let file = File::create(&path).expect("it can be made");
    let guest = transferring(&filled(), "write-to", "(i32.const 1)");
    Atoll::run(guest)
        .stdout_to(file)
        .outcome()
        .code(0)
        .stderr(DONE);
    check_written(File::open(&path).expect("it is there"));
}

#[test]
fn a_large_read_of_standard_input() {
    let folder = temporary_folder();
    let file = large_file(&folder.path().join("file"));
    let guest = transferring("", "read-from", "(i32.const 0)");
    Atoll::run(guest)
        .stdin_from(file)
        .outcome()
        .code(0)
        .stderr(DONE);
}
