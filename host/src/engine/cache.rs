//! A cache of compiled code on disk, so that the next start is fast.
//!
//! A file's name is a digest of everything that its code depends on: the module's bytes and the compiler's settings and
//! version. The file also holds a digest of its own code. If a digest does not match, the module is compiled anew and
//! the file replaced. The host runs code as it finds it, so it takes none that another user could have put there: the
//! folder and the files belong to this user, and no other user may write to them.
//!
//! No failure here is an error: without a cache a start is slower.

use super::compiler::compiled::Compiled;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;

/// Each file begins with this. It changes when the format does.
const MAGIC: &[u8; 16] = b"atoll code, v1\n\0";
const DIGEST_BYTES: usize = 32;
/// The most that is kept. Beyond that, the least recently used files are removed, down to three quarters.
const KEPT_BYTES_MAX: u64 = 512 << 20;
/// The largest file that is kept.
const FILE_BYTES_MAX: u64 = KEPT_BYTES_MAX / 2;

/// A folder with compiled code.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the user's cache folder (in `XDG_CACHE_HOME`, or in `.cache` in the home folder). None if there is none
    /// that can be trusted.
    pub(super) fn open() -> Option<Cache> {
        let folder = folder()?;
        match prepare(&folder) {
            Ok(()) => Some(Cache { folder }),
            Err(error) => {
                // A missing or read-only home folder is no fault, so this is no warning.
                let folder = folder.display();
                tracing::info!("compiled code is not kept in `{folder}`: {error}");
                None
            }
        }
    }

    /// The path of the code for these bytes, whether it is there or not.
    pub(super) fn path<C: Compiled>(&self, engine: &Engine, bytes: &[u8]) -> PathBuf {
        self.folder.join(key::<C>(engine, bytes))
    }

    /// The code at this path, if it can be used.
    pub(super) fn kept<C: Compiled>(&self, engine: &Engine, path: &Path) -> Option<C> {
        let code = match read(path) {
            Ok(code) => code,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("`{}` is not used, and made anew: {error}", path.display());
                return None;
            }
        };
        // SAFETY: `read` has checked that the file is this user's own, that no other user may write to it, and that its
        // digest matches the code as `write` wrote it. `key` makes the name of the engine's settings and version, so an
        // engine like this one has made the code.
        match unsafe { C::deserialize(engine, &code) } {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                tracing::warn!("`{}` is not used: {error:#}", path.display());
                None
            }
        }
    }

    /// Keeps code at this path. If that fails, the next start is slower.
    pub(super) fn keep(&self, path: &Path, code: &[u8]) {
        if let Err(error) = self.write(path, code) {
            tracing::info!("`{}` is not kept: {error}", path.display());
        }
    }

    /// Puts code at its path with one rename, so that a reader sees all of it or nothing.
    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        if code.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other("it is too large"));
        }
        self.evict(code.len() as u64)?;
        let own = format!("{}.new", std::process::id());
        let new = path.with_extension(own);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let written = file
            .write_all(MAGIC)
            .and_then(|()| file.write_all(&Sha256::digest(code)))
            .and_then(|()| file.write_all(code))
            .and_then(|()| std::fs::rename(&new, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written
    }

    /// Removes the least recently used files, if the cache would otherwise exceed its limit with so many bytes more.
    fn evict(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push((used, metadata.len(), entry.path()));
            }
        }
        let mut kept: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        if kept + bytes <= KEPT_BYTES_MAX {
            return Ok(());
        }
        files.sort();
        for (_, bytes, path) in files {
            if kept <= KEPT_BYTES_MAX / 4 * 3 {
                break;
            }
            // Another program may have removed it already.
            let _ = std::fs::remove_file(path);
            kept -= bytes;
        }
        Ok(())
    }
}

/// The folder of the user's cache, whether it is there or not.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(caches.join("atoll"))
}

/// Makes the folder, if it is not there, and checks its owner.
fn prepare(folder: &Path) -> io::Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    if let Err(error) = made
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let metadata = std::fs::symlink_metadata(folder)?;
    if !metadata.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    check_owner(&metadata)
}

/// Checks that only this user may have written the file.
fn check_owner(metadata: &std::fs::Metadata) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        return Err(io::Error::other("it is another user's"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it"));
    }
    Ok(())
}

/// The name of the file for these bytes.
fn key<C: Compiled>(engine: &Engine, bytes: &[u8]) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let mut digest = Sha256::new();
    for part in [
        C::KIND.name().as_bytes(),
        env!("CARGO_PKG_VERSION").as_bytes(),
        &settings.finish().to_le_bytes(),
        bytes,
    ] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a file's code, if the file can be trusted and is whole.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A link may lead anywhere, and a FIFO never answers.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    check_owner(&metadata)?;
    let mut head = [0; MAGIC.len() + DIGEST_BYTES];
    let mut code = Vec::new();
    let is_whole = metadata.len() <= FILE_BYTES_MAX && file.read_exact(&mut head).is_ok();
    if is_whole {
        code.reserve_exact(metadata.len() as usize - head.len());
        file.read_to_end(&mut code)?;
    }
    let (magic, digest) = head.split_at(MAGIC.len());
    if !is_whole || magic != MAGIC || digest != &Sha256::digest(&code)[..] {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is spoiled"));
    }
    // Marks the file as used. If that fails, the file is removed a little sooner.
    let _ = file.set_modified(SystemTime::now());
    Ok(code)
}
