//! Directory listings: each name comes once and as the host has it, with any buffer, and while names come and go.

use super::{granting, guest_with_pages, temporary_folder};
use atoll_tests::Atoll;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lists directories as C libraries do: if an entry does not fit, the guest asks for it again by the cookie of the entry
/// before. The buffer is at 0x20000, and may be a megabyte large.
const LIST: &str = "
  ;; The action for each name: 0 none, 1 print it, 2 remove its file.
  (global $deed (mut i32) (i32.const 1))
  (global $failures (mut i32) (i32.const 0))

  (func $each (param $file i32) (param $name i32) (param $bytes i32)
    ;; `.` and `..`. No other name here begins with a dot.
    (if (i32.eq (i32.load8_u (local.get $name)) (i32.const 46)) (then (return)))
    (if (i32.eq (global.get $deed) (i32.const 1))
      (then (call $print (local.get $name) (local.get $bytes))))
    (if (i32.eq (global.get $deed) (i32.const 2))
      (then (call $must (i32.eqz
        (call $path_unlink_file (local.get $file) (local.get $name) (local.get $bytes)))))))

  ;; Lists from a cookie on, at most this many names, with a buffer of this size. Returns the cookie of the last entry.
  (func $list (param $file i32) (param $room i32) (param $cookie i64) (param $most i32) (result i64)
    (local $error i32) (local $used i32) (local $at i32) (local $entry i32) (local $end i32)
    (loop $more
      (local.set $error (call $fd_readdir (local.get $file)
        (i32.const 0x20000) (local.get $room) (local.get $cookie) (i32.const 3008)))
      (if (local.get $error)
        (then
          (call $print %\"an error:\")
          (call $print-number (local.get $error))
          (global.set $failures (i32.add (global.get $failures) (i32.const 1)))
          (return (local.get $cookie))))
      (local.set $used (call $count))
      (call $must (i32.le_u (local.get $used) (local.get $room)))
      (local.set $at (i32.const 0))
      (block $rest
        (loop $next
          (br_if $rest (i32.gt_u (i32.add (local.get $at) (i32.const 24)) (local.get $used)))
          (local.set $entry (i32.add (i32.const 0x20000) (local.get $at)))
          (local.set $end (i32.add (local.get $at)
            (i32.add (i32.const 24) (i32.load offset=16 (local.get $entry)))))
          (br_if $rest (i32.gt_u (local.get $end) (local.get $used)))
          (call $each (local.get $file)
            (i32.add (local.get $entry) (i32.const 24)) (i32.load offset=16 (local.get $entry)))
          (local.set $cookie (i64.load (local.get $entry)))
          (local.set $at (local.get $end))
          (if (i32.eqz (local.tee $most (i32.sub (local.get $most) (i32.const 1))))
            (then (return (local.get $cookie))))
          (br $next)))
      ;; A buffer that is not full ends the listing.
      (if (i32.lt_u (local.get $used) (local.get $room)) (then (return (local.get $cookie))))
      ;; Each buffer here has room for a name.
      (call $must (local.get $at))
      (br $more))
    (unreachable))

  (func $list-all (param $room i32)
    (drop (call $list (i32.const 3) (local.get $room) (i64.const 0) (i32.const -1))))";

/// A main with this body and a granted folder.
fn lister(run: &str) -> String {
    guest_with_pages(
        20,
        &format!("{LIST} (func (export \"run\") (local $cookie i64) (local $count i32) {run})"),
    )
}

/// Raises the flag when it is dropped, also by a panic.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn make_files(folder: &Path, names: impl IntoIterator<Item = impl AsRef<Path>>) {
    for name in names {
        fs::File::create(folder.join(name)).expect("it can be made");
    }
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("file-{number:05}"))
}

/// The host's listing, as text.
fn names_of(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("it is there")
        .map(|entry| entry.expect("it is there").file_name())
        .map(|name| name.into_string().expect("it is text"))
        .collect();
    names.sort();
    names
}

/// The guest prints each name in the folder once and no other.
#[track_caller]
fn check_listing(folder: &Path, run: &str) {
    let outcome = granting(Atoll::run(lister(run)), folder)
        .outcome()
        .code(0)
        .stderr("");
    let mut listed: Vec<&str> = outcome.stdout.lines().collect();
    listed.sort_unstable();
    let names = names_of(folder);
    assert!(
        listed == names,
        "{} lines for {} names\n{outcome}",
        listed.len(),
        names.len()
    );
}

#[test]
fn many_names_with_a_large_buffer() {
    let folder = temporary_folder();
    make_files(folder.path(), numbered(10_000));
    check_listing(folder.path(), "(call $list-all (i32.const 0x100000))");
}

#[test]
fn many_names_with_the_buffer_of_a_c_library() {
    let folder = temporary_folder();
    make_files(folder.path(), numbered(10_000));
    check_listing(folder.path(), "(call $list-all (i32.const 4096))");
}

#[test]
fn many_names_with_a_buffer_for_one() {
    let folder = temporary_folder();
    make_files(folder.path(), numbered(10_000));
    check_listing(folder.path(), "(call $list-all (i32.const 40))");
}

#[test]
fn a_listing_goes_on_in_the_middle() {
    let folder = temporary_folder();
    make_files(folder.path(), numbered(1000));
    // In pieces, each of which ends within a buffer.
    let run = "(loop $again
          (local.set $cookie
            (call $list (i32.const 3) (i32.const 4096) (local.get $cookie) (i32.const 37)))
          (br_if $again (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 30))))";
    check_listing(folder.path(), run);
    // After another complete listing, whose output is dropped.
    let run = "(local.set $cookie (call $list (i32.const 3) (i32.const 4096) (i64.const 0) (i32.const 500)))
        (global.set $deed (i32.const 0))
        (call $list-all (i32.const 4096))
        (global.set $deed (i32.const 1))
        (drop (call $list (i32.const 3) (i32.const 4096) (local.get $cookie) (i32.const -1)))";
    check_listing(folder.path(), run);
}

#[test]
fn a_listing_begins_anew() {
    let folder = temporary_folder();
    make_files(folder.path(), numbered(1000));
    // Names that were added since are there, and removed ones are not.
    let run = "(global.set $deed (i32.const 0))
        (drop (call $list (i32.const 3) (i32.const 4096) (i64.const 0) (i32.const 500)))
        (call $must (i32.eqz (call $open %\"new\" (i32.const 1) (i64.const 64))))
        (call $must (i32.eqz (call $path_unlink_file (i32.const 3) %\"file-00007\")))
        (global.set $deed (i32.const 1))
        (call $list-all (i32.const 4096))";
    check_listing(folder.path(), run);
}

#[test]
fn files_that_are_removed_while_they_are_listed() {
    for count in [10, 100, 1000] {
        let folder = temporary_folder();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("it can be made");
        make_files(&inner, numbered(count));
        // A folder that is not empty can't be removed: the error would be 55.
        let run = "(call $must (i32.eqz (call $open %\"inner\" (i32.const 2) (i64.const 0x4000))))
            (global.set $deed (i32.const 2))
            (drop (call $list (call $opened) (i32.const 4096) (i64.const 0) (i32.const -1)))
            (call $print-number (call $path_remove_directory (i32.const 3) %\"inner\"))";
        granting(Atoll::run(lister(run)), folder.path())
            .outcome()
            .code(0)
            .stdout("0\n")
            .stderr("");
        assert!(!inner.exists());
    }
}

#[test]
fn files_that_come_and_go_do_not_fail_a_listing() {
    let folder = temporary_folder();
    make_files(folder.path(), numbered(300));
    let run = "(global.set $deed (i32.const 0))
        (call $print %\"begins\")
        (loop $again
          (call $list-all (i32.const 0x10000))
          (br_if $again (i32.and
            (i32.eqz (global.get $failures))
            (i32.lt_u (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100)))))";
    let is_over = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let names: Vec<_> = (0..50).map(|number| format!("passing-{number}")).collect();
            while !is_over.load(Ordering::Relaxed) {
                make_files(folder.path(), &names);
                for name in &names {
                    fs::remove_file(folder.path().join(name)).expect("it is there");
                }
            }
        });
        let _end = Raised(&is_over);
        granting(Atoll::run(lister(run)), folder.path()).outcome()
    });
    outcome.code(0).stdout("begins\n").stderr("");
}

#[test]
fn names_in_other_scripts_come_as_they_are() {
    let folder = temporary_folder();
    let names = [
        "Действие",
        "Соприкосновения",
        "日本語のとても長い名前のファイル",
        "e\u{301}", // Not composed,
        "\u{e9}",   // and composed: two names.
        "🦀",
        "plain",
    ];
    make_files(folder.path(), names);
    make_files(
        folder.path(),
        (0..100).map(|number| format!("Действие-{number}")),
    );
    for room in [300, 4096] {
        check_listing(
            folder.path(),
            &format!("(call $list-all (i32.const {room}))"),
        );
    }
}

#[test]
fn a_name_that_is_no_text_hides_no_other() {
    let folder = temporary_folder();
    let names: BTreeSet<String> = numbered(20).collect();
    make_files(folder.path(), &names);
    make_files(folder.path(), [OsStr::from_bytes(b"caf\xe9")]);
    let run = "(call $list-all (i32.const 4096))";
    let outcome = granting(Atoll::run(lister(run)), folder.path())
        .outcome()
        .code(0)
        .stderr("");
    // Whether the folder is listed itself, and in which form, is open here.
    let listed: BTreeSet<String> = outcome
        .stdout
        .lines()
        .filter(|line| line.starts_with("file-"))
        .map(str::to_owned)
        .collect();
    assert!(listed == names, "names are missing\n{outcome}");
    assert!(!outcome.stdout.contains("an error:"), "\n{outcome}");
}
