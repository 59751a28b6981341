//! The interface between a WASI program and its environment: failing output, full pipes, directories, limits, the cache.
//!
//! Each file covers one part. This file builds the guests: [`guest`] has all functions of the contract that need no grant,
//! and functions for files.

use atoll_tests::{Atoll, Guest, TIE_FUNCTIONS, TIES};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

mod cache;
mod doomed;
mod ending;
mod files;
mod limits;
mod listing;
mod paths;
mod stdout;
mod transfers;

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $path_remove_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
"#;

/// Functions for files. They use memory from 3000 on: a piece's address and length at 3000, the transferred length at 3008,
/// the last opened file at 3012, a subscription at 3024, its event at 3072, a file's state at 3136.
const FUNCTIONS: &str = r#"
  ;; Opens a path in the granted directory, following links. Returns the error number. Rights: 2 to read, 64 to write. Flags:
  ;; 1 creates, 2 only a directory, 4 only a new file, 8 truncates.
  (func $open (param $path i32) (param $bytes i32) (param $how i32) (param $rights i64) (result i32)
    (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $bytes)
      (local.get $how) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 3012)))

  ;; The last opened file.
  (func $opened (result i32) (i32.load (i32.const 3012)))

  ;; The length of the last transfer.
  (func $count (result i32) (i32.load (i32.const 3008)))

  (func $piece (param $at i32) (param $bytes i32)
    (i32.store (i32.const 3000) (local.get $at))
    (i32.store (i32.const 3004) (local.get $bytes)))

  (func $write-to (param $file i32) (param $at i32) (param $bytes i32) (result i32)
    (call $piece (local.get $at) (local.get $bytes))
    (call $fd_write (local.get $file) (i32.const 3000) (i32.const 1) (i32.const 3008)))

  (func $read-from (param $file i32) (param $at i32) (param $bytes i32) (result i32)
    (call $piece (local.get $at) (local.get $bytes))
    (call $fd_read (local.get $file) (i32.const 3000) (i32.const 1) (i32.const 3008)))

  ;; Writes a text and a line end to standard output or error, and returns the error number.
  (func $try-print (param $file i32) (param $at i32) (param $bytes i32) (result i32)
    (memory.copy (i32.const 512) (local.get $at) (local.get $bytes))
    (i32.store8 offset=512 (local.get $bytes) (i32.const 10))
    (call $write-to (local.get $file) (i32.const 512) (i32.add (local.get $bytes) (i32.const 1))))

  ;; Sleeps for this many seconds.
  (func $sleep (param $seconds i64)
    (i32.store8 (i32.const 3032) (i32.const 0))
    (i32.store (i32.const 3040) (i32.const 1))
    (i64.store (i32.const 3048) (i64.mul (local.get $seconds) (i64.const 1000000000)))
    (i64.store (i32.const 3056) (i64.const 0))
    (i32.store16 (i32.const 3064) (i32.const 0))
    (call $must (i32.eqz
      (call $poll_oneoff (i32.const 3024) (i32.const 3072) (i32.const 1) (i32.const 3128)))))

  ;; The size of a path in the granted directory; -1 if it does not exist.
  (func $length (param $path i32) (param $bytes i32) (result i64)
    (if (result i64)
        (call $path_filestat_get
          (i32.const 3) (i32.const 1) (local.get $path) (local.get $bytes) (i32.const 3136))
      (then (i64.const -1))
      (else (i64.load (i32.const 3168)))))

  ;; Writes lines to standard output for ever and ignores errors.
  (func $flood (export "flood")
    (loop $again
      (drop (call $try-print (i32.const 1) %"a line that nobody reads at the moment"))
      (br $again)))
"#;

/// A guest with all functions of the contract that need no grant, and functions for files.
fn guest(body: &str) -> String {
    guest_with_pages(2, body)
}

/// The same with a larger memory. The prelude needs two pages.
fn guest_with_pages(pages: u32, body: &str) -> String {
    Guest {
        imports: &format!("{TIES}{IMPORTS}"),
        memory: &format!("(memory (export \"memory\") {pages})"),
        body: &format!("{TIE_FUNCTIONS}{FUNCTIONS}{body}"),
        ..Guest::default()
    }
    .text()
}

/// Grants a folder as the first directory.
fn granting(atoll: Atoll, folder: &Path) -> Atoll {
    let mut grant = folder.as_os_str().to_owned();
    grant.push("::/data");
    atoll.option("--dir").option(grant)
}

fn temporary_folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A device without room.
fn full_device() -> OwnedFd {
    let file = fs::File::options().write(true).open("/dev/full");
    file.expect("it is there").into()
}
