//! Compiled code on disk: programs run right in any state of the files, and other users can't change the code.

use super::{guest, temporary_folder};
use atoll_tests::{Atoll, Outcome};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How many bits the test flips, one at a time.
const SPOILED_BITS: usize = 60;

/// The program's output.
const RESULT: &str = "4950\n";

/// Prints the sum of the numbers below 100, and exits with this code.
fn program(code: u32) -> String {
    guest(&format!(
        "(func $sum (param $below i32) (result i32)
           (local $sum i32)
           (loop $again
             (local.set $below (i32.sub (local.get $below) (i32.const 1)))
             (local.set $sum (i32.add (local.get $sum) (local.get $below)))
             (br_if $again (local.get $below)))
           (local.get $sum))
         (func (export \"run\")
           (call $print-number (call $sum (i32.const 100)))
           (call $proc_exit (i32.const {code})))"
    ))
}

/// The cache's folder, which is removed with the test.
struct Cache(TempDir);

impl Cache {
    fn new() -> Cache {
        let cache = Cache(temporary_folder());
        fs::create_dir(cache.root()).expect("it can be made");
        cache
    }

    /// The cache folder for the program.
    fn root(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn atoll(&self, code: u32) -> Atoll {
        Atoll::run(program(code))
            .cached()
            .env("XDG_CACHE_HOME", self.root())
    }

    /// Asserts that the program runs right.
    #[track_caller]
    fn check(&self, what: &str) {
        check(self.atoll(7).outcome(), what);
    }

    /// Runs the program for the first time, and returns the file with its code.
    #[track_caller]
    fn filled(&self) -> PathBuf {
        self.check("an empty cache");
        self.code()
    }

    /// The file with the code: the largest one.
    #[track_caller]
    fn code(&self) -> PathBuf {
        let files = self.entries().into_iter().filter(|path| path.is_file());
        let largest = files.max_by_key(|path| length(path));
        largest.expect("compiled code is kept")
    }

    /// All files in the cache.
    fn entries(&self) -> Vec<PathBuf> {
        let mut entries = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is a folder") {
                let path = entry.expect("it is there").path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                entries.push(path);
            }
        }
        entries
    }

    /// Gives every folder of the cache this mode.
    fn set_folders(&self, mode: u32) {
        let folders = self.entries().into_iter().filter(|path| path.is_dir());
        for folder in folders.chain([self.root()]) {
            set_mode(&folder, mode);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // The test may have forbidden access, but the folder has to be removed.
        if self.root().is_dir() {
            self.set_folders(0o700);
        }
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().expect("it is there").len()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is the test's own");
}

#[track_caller]
fn check(outcome: Outcome, what: &str) {
    assert!(
        outcome.code == Some(7) && outcome.stdout == RESULT,
        "{what}: the program does not run right\n{outcome}"
    );
}

/// Puts a file of these bytes in the place of the code. The program runs right, and replaces the file by a good one.
#[track_caller]
fn check_spoiled(spoil: impl Fn(&[u8]) -> Vec<u8>, what: &str) {
    let cache = Cache::new();
    let file = cache.filled();
    let good = fs::read(&file).expect("it is there");
    let bad = spoil(&good);
    assert_ne!(bad, good);
    fs::write(&file, bad).expect("it is the test's own");
    cache.check(what);
    assert!(
        fs::read(&file).expect("it is there") == good,
        "{what}: the file is not good again"
    );
    cache.check("a file that is good again");
}

#[test]
fn an_empty_file() {
    check_spoiled(|_| Vec::new(), "an empty file");
}

#[test]
fn half_a_file() {
    check_spoiled(|good| good[..good.len() / 2].to_vec(), "half a file");
}

#[test]
fn a_file_that_is_too_long() {
    check_spoiled(|good| [good, b"more"].concat(), "a longer file");
}

#[test]
fn random_bytes() {
    // A linear congruential generator, so that each run uses the same bytes.
    let bytes = |good: &[u8]| {
        let mut state = 1u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..good.len()).map(next).collect()
    };
    check_spoiled(bytes, "random bytes");
}

#[test]
fn a_spoiled_bit() {
    let cache = Cache::new();
    let file = cache.filled();
    let good = fs::read(&file).expect("it is there");
    for number in 0..SPOILED_BITS {
        let at = number * good.len() / SPOILED_BITS;
        let what = format!("bit {} of byte {at} of {} is wrong", number % 8, good.len());
        let mut bad = good.clone();
        bad[at] ^= 1 << (number % 8);
        fs::write(&file, bad).expect("it is the test's own");
        cache.check(&what);
        assert!(
            fs::read(&file).expect("it is there") == good,
            "{what}: the file is not good again"
        );
    }
}

#[test]
fn a_file_that_may_not_be_read() {
    let cache = Cache::new();
    set_mode(&cache.filled(), 0);
    cache.check("a file that may not be read");
}

#[test]
fn a_folder_in_place_of_the_file() {
    let cache = Cache::new();
    let file = cache.filled();
    fs::remove_file(&file).expect("it is there");
    fs::create_dir(&file).expect("it can be made");
    cache.check("a folder in place of the file");
}

#[test]
fn a_file_in_place_of_the_folder() {
    let cache = Cache::new();
    fs::remove_dir(cache.root()).expect("it is empty");
    fs::write(cache.root(), "").expect("it can be written");
    cache.check("a file in place of the folder");
}

#[test]
fn a_folder_that_may_not_be_written() {
    let cache = Cache::new();
    set_mode(&cache.root(), 0o500);
    cache.check("a folder that may not be written");
}

#[test]
fn a_folder_that_is_not_there() {
    let cache = Cache::new();
    fs::remove_dir(cache.root()).expect("it is empty");
    cache.check("a folder that is not there");
}

#[test]
fn no_home_and_no_folder() {
    let outcome = Atoll::run(program(7)).cached().outcome();
    check(outcome, "no folder is named");
}

#[test]
fn cached_files_belong_to_the_user() {
    // Even if the user's umask gives others all permissions for new files.
    let cache = Cache::new();
    check(cache.atoll(7).after("umask 0").outcome(), "an empty cache");
    let entries = cache.entries();
    assert!(!entries.is_empty());
    for path in entries {
        let mode = path.metadata().expect("it is there").mode() & 0o777;
        let right = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, right, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn code_that_others_could_have_put_there_is_not_run() {
    let cache = Cache::new();
    let file = cache.filled();
    // The code of another program replaces this one's. A user with write permission for the folders could do that.
    let others = Cache::new();
    others.atoll(9).outcome().code(9);
    fs::copy(others.code(), &file).expect("it is the test's own");
    cache.set_folders(0o777);
    cache.check("another program's code");
}

#[test]
fn nothing_is_kept_where_others_can_change_it() {
    let cache = Cache::new();
    let file = cache.filled();
    fs::remove_file(&file).expect("it is there");
    cache.set_folders(0o777);
    cache.check("a folder that others can write to");
    assert!(!file.exists(), "code is kept where others can change it");
}

#[test]
fn eight_at_once() {
    let cache = Cache::new();
    let running: Vec<_> = (0..8).map(|_| cache.atoll(7).start()).collect();
    for running in running {
        check(running.outcome(), "one of eight");
    }
    cache.check("after them");
}
