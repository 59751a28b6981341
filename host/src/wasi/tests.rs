//! Guests that call WASI through the real linkers, with a clock and random bytes under the test's control.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::{Component, Linker as ComponentLinker, ResourceTable};
use wasmtime::{Engine, Error, Linker, Module, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView};

use super::*;

/// A clock that advances by 1 ns at each reading, and random bytes that count up.
struct FakeSeam {
    now: AtomicU64,
}

impl Seam for FakeSeam {
    fn resolution_ns(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }

    fn wall(&self) -> Duration {
        Duration::new(1_000_000, 7)
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = 1 + u8::try_from(index % 255).unwrap();
        }
    }
}

fn seam() -> Arc<dyn Seam> {
    Arc::new(FakeSeam {
        now: AtomicU64::new(42),
    })
}

/// A directory for one test. It is removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "atoll-wasi-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn grant(&self, writable: bool) -> DirGrant {
        DirGrant {
            host: self.0.clone(),
            guest: "/data".to_owned(),
            writable,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Guest for Preview1 {
    fn preview1(&mut self) -> &mut Preview1 {
        self
    }

    fn survives(&self) -> wasmtime::Result<()> {
        Ok(())
    }

    fn pay(&mut self, _reductions: u64) -> bool {
        false
    }
}

/// The result of a guest's `run`, and its output.
struct Outcome {
    result: Result<i64, Error>,
    stdout: String,
    stderr: String,
}

/// Runs `run: () -> i64` of a module that has one page of memory, these functions and this data.
fn run_module(grants: Grants, body: &str) -> Outcome {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open" (func $path_open
                (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get
                (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 8)
            (func $write (param $fd i32) (param $start i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $start))
                (i32.store (i32.const 4) (local.get $length))
                (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
            {body})"#
    );
    let (output, captured) = Output::memory();
    let wasi = Wasi::new(grants, output, seam()).unwrap();
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    add_preview1(&mut linker).unwrap();
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut store = Store::new(&engine, wasi.preview1(&wasi.whole()));
    let result = io_runtime().unwrap().block_on(async {
        let instance = linker.instantiate_async(&mut store, &module).await?;
        let run = instance.get_typed_func::<(), i64>(&mut store, "run")?;
        run.call_async(&mut store, ()).await
    });
    drop(store);
    Outcome {
        result,
        stdout: captured.stdout(),
        stderr: captured.stderr(),
    }
}

#[test]
fn a_module_writes_lines() {
    let outcome = run_module(
        Grants::default(),
        r#"(data (i32.const 100) "one\ntwo\nthree")
        (func (export "run") (result i64)
            (call $write (i32.const 1) (i32.const 100) (i32.const 2))
            (call $write (i32.const 2) (i32.const 104) (i32.const 4))
            (call $write (i32.const 1) (i32.const 102) (i32.const 2))
            (call $write (i32.const 1) (i32.const 108) (i32.const 5))
            (i64.const 7))"#,
    );
    assert_eq!(outcome.result.unwrap(), 7);
    assert_eq!(outcome.stdout, "one\nthree");
    assert_eq!(outcome.stderr, "two\n");
}

#[test]
fn clocks_come_through_the_seam() {
    let clock = |id: u32| {
        let body = format!(
            r#"(func (export "run") (result i64)
                (if (call $clock_time_get (i32.const {id}) (i64.const 0) (i32.const 16)) (then unreachable))
                (i64.load (i32.const 16)))"#
        );
        run_module(Grants::default(), &body).result.unwrap()
    };
    assert_eq!(clock(0), 1_000_000_000_000_007);
    assert_eq!(clock(1), 42);
}

#[test]
fn random_bytes_of_any_length_come_through_the_seam() {
    // The guest asks for 300 KiB at address 5. Check the first byte, the last byte, and the byte after, which must not change.
    let outcome = run_module(
        Grants::default(),
        r#"(func (export "run") (result i64)
            (if (call $random_get (i32.const 5) (i32.const 307200)) (then unreachable))
            (i64.extend_i32_u (i32.add
                (i32.add
                    (i32.mul (i32.ne (i32.load8_u (i32.const 5)) (i32.const 0)) (i32.const 1))
                    (i32.mul (i32.ne (i32.load8_u (i32.const 307204)) (i32.const 0)) (i32.const 2)))
                (i32.mul (i32.load8_u (i32.const 307205)) (i32.const 4)))))"#,
    );
    assert_eq!(outcome.result.unwrap(), 3);
}

#[test]
fn random_bytes_outside_the_memory_trap() {
    for (pointer, length) in [(524_288, 1), (524_287, 2), (-1, -1), (0, 524_289)] {
        let body = format!(
            r#"(func (export "run") (result i64)
                (i64.extend_i32_u (call $random_get (i32.const {pointer}) (i32.const {length}))))"#
        );
        let error = run_module(Grants::default(), &body).result.unwrap_err();
        assert_eq!(
            error.downcast_ref(),
            Some(&wasmtime::Trap::MemoryOutOfBounds),
            "{pointer} {length}"
        );
    }
}

#[test]
fn every_exit_code_passes() {
    for code in [0, 1, 125, 126, 255, 256, -1] {
        let body = format!(
            r#"(func (export "run") (result i64) (call $proc_exit (i32.const {code})) unreachable)"#
        );
        let error = run_module(Grants::default(), &body).result.unwrap_err();
        assert_eq!(exit_code(&error), Some(code));
        assert!(!exhausted_handles(&error));
    }
    let trap = run_module(
        Grants::default(),
        r#"(func (export "run") (result i64) unreachable)"#,
    );
    assert_eq!(exit_code(&trap.result.unwrap_err()), None);
}

#[test]
fn preview1_has_no_sockets() {
    let outcome = run_module(
        Grants::default(),
        r#"(func (export "run") (result i64)
            (i64.extend_i32_u (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0))))"#,
    );
    assert_eq!(outcome.result.unwrap(), 57);
}

#[test]
fn nothing_is_granted_by_default() {
    // The first descriptor after the standard streams would be a directory. The answer is "bad descriptor".
    let outcome = run_module(
        Grants::default(),
        r#"(func (export "run") (result i64)
            (if (call $environ_sizes_get (i32.const 16) (i32.const 20)) (then unreachable))
            (if (i32.load (i32.const 16)) (then unreachable))
            (i64.extend_i32_u (call $fd_prestat_get (i32.const 3) (i32.const 0))))"#,
    );
    assert_eq!(outcome.result.unwrap(), 8);
}

#[test]
fn the_last_value_of_a_variable_holds() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let outcome = run_module(
        Grants {
            env: vec![pair("A", "first"), pair("B", "x"), pair("A", "2")],
            ..Grants::default()
        },
        r#"(func (export "run") (result i64)
            (if (call $environ_sizes_get (i32.const 16) (i32.const 20)) (then unreachable))
            (i64.load (i32.const 16)))"#,
    );
    // There are two variables, of 8 bytes with `=` and NUL.
    assert_eq!(outcome.result.unwrap(), 2 | 8 << 32);
}

/// Opens the file "f" in the first directory with these open flags and rights; returns the error number.
fn open(flags: u32, rights: u32) -> String {
    format!(
        r#"(call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 1) (i32.const {flags})
            (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16))"#
    )
}

#[test]
fn a_granted_directory_is_read() {
    let directory = Directory::new();
    std::fs::write(directory.0.join("f"), "from the file\n").unwrap();
    let open = open(0, 2);
    let body = format!(
        r#"(data (i32.const 100) "f")
        (func (export "run") (result i64)
            (if {open} (then unreachable))
            (i32.store (i32.const 0) (i32.const 200))
            (i32.store (i32.const 4) (i32.const 100))
            (if (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (call $write (i32.const 1) (i32.const 200) (i32.load (i32.const 8)))
            (i64.const 0))"#
    );
    let grants = Grants {
        dirs: vec![directory.grant(false)],
        ..Grants::default()
    };
    let outcome = run_module(grants, &body);
    outcome.result.unwrap();
    assert_eq!(outcome.stdout, "from the file\n");
}

#[test]
fn a_read_only_directory_is_not_written() {
    let directory = Directory::new();
    // The flags create the file, the rights allow writing.
    let open = open(1, 64);
    let body = format!(
        r#"(data (i32.const 100) "f") (func (export "run") (result i64) (i64.extend_i32_u {open}))"#
    );
    let run = |writable: bool| {
        let grants = Grants {
            dirs: vec![directory.grant(writable)],
            ..Grants::default()
        };
        let errno = run_module(grants, &body).result.unwrap();
        (errno, directory.0.join("f").exists())
    };
    // 63 is "not permitted".
    assert_eq!(run(false), (63, false));
    assert_eq!(run(true), (0, true));
}

#[test]
fn handles_are_bounded() {
    let directory = Directory::new();
    std::fs::write(directory.0.join("f"), "").unwrap();
    let open = open(0, 2);
    let body = format!(
        r#"(data (i32.const 100) "f")
        (func (export "run") (result i64)
            (local $errno i32)
            (loop $again (br_if $again (i32.eqz (local.tee $errno {open}))))
            (i64.extend_i32_u (local.get $errno)))"#
    );
    let grants = Grants {
        dirs: vec![directory.grant(false)],
        handles_max: 20,
        ..Grants::default()
    };
    // 33 is "too many open files".
    assert_eq!(run_module(grants, &body).result.unwrap(), 33);
}

#[test]
fn a_long_poll_list_is_bounded() {
    // Each subscription is all zeros: a clock that has expired. It needs two handles.
    let poll = |count: u32| {
        let body = format!(
            r#"(func (export "run") (result i64)
                (i64.extend_i32_u (call $poll_oneoff (i32.const 0) (i32.const 262144) (i32.const {count}) (i32.const 16))))"#
        );
        run_module(Grants::default(), &body).result
    };
    assert_eq!(poll(200).unwrap(), 0);
    // 48 is "no memory": the list needs more handles than a process may have, or more copying than a call may do.
    assert_eq!(poll(2000).unwrap(), 48);
    assert_eq!(poll(80_000_000).unwrap(), 48);
}

#[test]
fn impossible_grants_are_refused() {
    let directory = Directory::new();
    let file = directory.0.join("file");
    std::fs::write(&file, "").unwrap();
    let at = |host: PathBuf| DirGrant {
        host,
        guest: "/data".to_owned(),
        writable: true,
    };
    let check = |grants: Grants, kind: WasiErrorKind, expected: &str| {
        let error = Wasi::new(grants, Output::memory().0, seam()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, expected));
        assert!(!error.hint().is_empty());
    };
    let of_dirs = |dirs: Vec<DirGrant>| Grants {
        dirs,
        ..Grants::default()
    };
    let missing = directory.0.join("missing");
    let expected = format!("`{}` does not exist", missing.display());
    check(
        of_dirs(vec![at(missing)]),
        WasiErrorKind::Directory,
        &expected,
    );
    let expected = format!("`{}` is not a directory", file.display());
    check(of_dirs(vec![at(file)]), WasiErrorKind::Directory, &expected);
    check(
        of_dirs(vec![directory.grant(true), directory.grant(false)]),
        WasiErrorKind::Directory,
        "two directories are granted as `/data`",
    );
    let of_env = |name: &str, value: &str| Grants {
        env: vec![(name.to_owned(), value.to_owned())],
        ..Grants::default()
    };
    check(
        of_env("A", "a\0b"),
        WasiErrorKind::Text,
        "the environment variable \"A\" holds a NUL",
    );
    check(
        of_env("A=B", ""),
        WasiErrorKind::Text,
        "\"A=B\" can't be the name of an environment variable",
    );
    let of_args = Grants {
        args: vec!["a\0".to_owned()],
        ..Grants::default()
    };
    check(
        of_args,
        WasiErrorKind::Text,
        "the argument \"a\\0\" holds a NUL",
    );
}

struct ComponentData {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for ComponentData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.context,
            table: &mut self.table,
        }
    }
}

/// Runs `run: () -> u64` of a component.
fn run_component(grants: Grants, text: &str) -> Result<u64, Error> {
    let wasi = Wasi::new(grants, Output::memory().0, seam()).unwrap();
    let engine = Engine::default();
    let mut linker = ComponentLinker::new(&engine);
    add_preview2(&mut linker).unwrap();
    let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let (context, table) = wasi.preview2(&wasi.whole());
    let mut store = Store::new(&engine, ComponentData { context, table });
    io_runtime().unwrap().block_on(async {
        let instance = linker.instantiate_async(&mut store, &component).await?;
        let run = instance.get_typed_func::<(), (u64,)>(&mut store, "run")?;
        Ok(run.call_async(&mut store, ()).await?.0)
    })
}

#[test]
fn a_component_gets_the_same_clock() {
    let text = r#"(component
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
        (core func $now (canon lower (func $clock "now")))
        (core module $module
            (import "clock" "now" (func $now (result i64)))
            (func (export "run") (result i64) call $now))
        (core instance $instance (instantiate $module (with "clock" (instance (export "now" (func $now))))))
        (func (export "run") (result u64) (canon lift (core func $instance "run"))))"#;
    assert_eq!(run_component(Grants::default(), text).unwrap(), 42);
}

/// Makes a TCP socket, and returns 0, or 1 plus the number of the error.
const SOCKET_COMPONENT: &str = r#"(component
    (import "wasi:sockets/network@0.2.0" (instance $network
        (type $family (enum "ipv4" "ipv6"))
        (export "ip-address-family" (type (eq $family)))
        (type $error (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
            "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
            "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
            "permanent-resolver-failure"))
        (export "error-code" (type (eq $error)))))
    (alias export $network "ip-address-family" (type $family))
    (alias export $network "error-code" (type $error))
    (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
    (alias export $tcp "tcp-socket" (type $socket))
    (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
        (alias outer 1 $family (type $outer-family))
        (export "ip-address-family" (type $family (eq $outer-family)))
        (alias outer 1 $error (type $outer-error))
        (export "error-code" (type $error (eq $outer-error)))
        (alias outer 1 $socket (type $outer-socket))
        (export "tcp-socket" (type $socket (eq $outer-socket)))
        (export "create-tcp-socket" (func (param "address-family" $family)
            (result (result (own $socket) (error $error)))))))
    (core module $libc (memory (export "memory") 1))
    (core instance $libc (instantiate $libc))
    (core func $create (canon lower (func $create "create-tcp-socket") (memory (core memory $libc "memory"))))
    (core module $module
        (import "libc" "memory" (memory 1))
        (import "create" "create" (func $create (param i32 i32)))
        (func (export "run") (result i64)
            (call $create (i32.const 0) (i32.const 16))
            (if (result i64) (i32.load8_u (i32.const 16))
                (then (i64.add (i64.const 1) (i64.load8_u (i32.const 20))))
                (else (i64.const 0)))))
    (core instance $instance (instantiate $module
        (with "libc" (instance $libc))
        (with "create" (instance (export "create" (func $create))))))
    (func (export "run") (result u64) (canon lift (core func $instance "run"))))"#;

#[test]
fn sockets_load_and_are_refused_unless_granted() {
    let run = |net: NetGrant| {
        let grants = Grants {
            net,
            ..Grants::default()
        };
        run_component(grants, SOCKET_COMPONENT).unwrap()
    };
    // 2 is "access denied".
    assert_eq!(run(NetGrant::None), 2);
    assert_eq!(run(NetGrant::parse("127.0.0.1:80").unwrap()), 0);
    assert_eq!(run(NetGrant::All), 0);
}
