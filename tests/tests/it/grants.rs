//! Grants for WASI programs: none by default, and the ones on the command line.

use crate::wrap::Component;
use atoll_tests::{Atoll, Guest};
use std::fs;
use std::path::Path;

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
"#;

const FUNCTIONS: &str = r#"
  ;; Opens a path below a granted directory, following links. Returns the error, with the file at 1024.
  (func $open (param $directory i32) (param $path i32) (param $bytes i32) (param $how i32) (param $rights i64)
    (result i32)
    (call $path_open (local.get $directory) (i32.const 1) (local.get $path) (local.get $bytes)
      (local.get $how) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 1024)))
  ;; Opens a file of the first directory for reading, and prints its contents or the error number.
  (func $show (param $path i32) (param $bytes i32)
    (local $error i32)
    (local.set $error
      (call $open (i32.const 3) (local.get $path) (local.get $bytes) (i32.const 0) (i64.const 2)))
    (if (local.get $error) (then (call $print-number (local.get $error)) (return)))
    (i32.store (i32.const 1032) (i32.const 2048))
    (i32.store (i32.const 1036) (i32.const 400))
    (call $must (i32.eqz
      (call $fd_read (i32.load (i32.const 1024)) (i32.const 1032) (i32.const 1) (i32.const 1040))))
    (call $print (i32.const 2048) (i32.load (i32.const 1040))))
"#;

fn guest(run: &str) -> String {
    Guest {
        imports: IMPORTS,
        body: &format!("{FUNCTIONS} (func (export \"run\") {run})"),
        ..Guest::default()
    }
    .text()
}

/// The numbers of errors that refuse access: access, bad file, operation not permitted, read-only, not capable.
const REFUSALS: [&str; 5] = ["2", "8", "63", "69", "76"];

/// Each line of the output is an error number that refuses access.
#[track_caller]
fn check_refused(atoll: Atoll, count: usize) {
    let outcome = atoll.outcome().code(0).stderr("");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(
        lines.len() == count && lines.iter().all(|line| REFUSALS.contains(line)),
        "not {count} refusals\n{outcome}"
    );
}

fn granting(atoll: Atoll, host: &Path, how: &str) -> Atoll {
    atoll
        .option("--dir")
        .option(format!("{}{how}", host.display()))
}

/// A folder with a file and with a subfolder that has another file. Outside of it lies a secret. There are links of every
/// kind.
fn folders() -> tempfile::TempDir {
    let outer = tempfile::tempdir().expect("a temporary folder can be made");
    let granted = outer.path().join("granted");
    fs::create_dir_all(granted.join("inner")).expect("it can be made");
    fs::create_dir(outer.path().join("outside")).expect("it can be made");
    for (path, text) in [
        ("granted/file", "text"),
        ("granted/inner/file", "inner text"),
        ("outside/secret", "secret"),
        ("secret", "secret"),
    ] {
        fs::write(outer.path().join(path), text).expect("it can be written");
    }
    let secret = outer.path().join("secret");
    for (link, target) in [
        ("up", Path::new("../secret")),
        ("up-folder", Path::new("../outside")),
        ("absolute", &secret),
        ("parent", Path::new("..")),
        ("inside", Path::new("inner/file")),
        ("inner/back", Path::new("../file")),
        ("root", Path::new("/")),
    ] {
        std::os::unix::fs::symlink(target, granted.join(link)).expect("it can be made");
    }
    outer
}

#[test]
fn nothing_is_granted_by_default() {
    // No variables, no directory, no socket, and one argument, the program's own name.
    let run = "
        (call $must (i32.eqz (call $environ_sizes_get (i32.const 1024) (i32.const 1028))))
        (call $print-number (i32.load (i32.const 1024)))
        (call $must (i32.eqz (call $args_sizes_get (i32.const 1024) (i32.const 1028))))
        (call $print-number (i32.load (i32.const 1024)))
        (call $print-number (call $fd_prestat_get (i32.const 3) (i32.const 1024)))
        (call $print-number (call $open (i32.const 3) %\"file\" (i32.const 0) (i64.const 2)))
        (call $print-number (call $open (i32.const 0) %\"file\" (i32.const 0) (i64.const 2)))
        (call $print-number (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 1024)))";
    let outcome = Atoll::run(guest(run))
        .env("SECRET", "of the host's")
        .outcome()
        .code(0)
        .stderr("");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    // EBADF is 8, ENOTDIR 54, ENOTSOCK 57.
    assert_eq!(&lines[..3], ["0", "1", "8"], "\n{outcome}");
    assert!(
        lines[3] == "8" && ["8", "54"].contains(&lines[4]),
        "\n{outcome}"
    );
    assert_eq!(lines[5], "57", "\n{outcome}");
}

#[test]
fn environment() {
    let run = "
        (call $must (i32.eqz (call $environ_sizes_get (i32.const 1024) (i32.const 1028))))
        (call $must (i32.eqz (call $environ_get (i32.const 1040) (i32.const 2048))))
        (call $print (i32.const 2048) (i32.load (i32.const 1028)))";
    Atoll::run(guest(run))
        .options([
            "--env", "A=1", "--env", "EMPTY=", "--env", "PASSED", "--env", "B=ü=x", "--env", "A=2",
        ])
        .env("PASSED", "the host's")
        .env("SECRET", "of the host's")
        .outcome()
        .code(0)
        .stdout("EMPTY=\0PASSED=the host's\0B=ü=x\0A=2\0\n");
}

#[test]
fn arguments() {
    let run = "
        (call $must (i32.eqz (call $args_sizes_get (i32.const 1024) (i32.const 1028))))
        (call $must (i32.eqz (call $args_get (i32.const 1040) (i32.const 2048))))
        (call $print-number (i32.load (i32.const 1024)))
        (call $print (i32.load (i32.const 1044)) (i32.sub
          (i32.load (i32.const 1028)) (i32.sub (i32.load (i32.const 1044)) (i32.load (i32.const 1040)))))";
    Atoll::run(guest(run))
        .arg("first")
        .arg("")
        .arg("ünïcödé and space")
        .outcome()
        .code(0)
        .stdout("4\nfirst\0\0ünïcödé and space\0\n");
}

#[test]
fn a_granted_directory() {
    let folders = folders();
    let host = folders.path().join("granted");
    let run = "
        (call $must (i32.eqz (call $fd_prestat_get (i32.const 3) (i32.const 1024))))
        (call $must (i32.eqz (call $fd_prestat_dir_name (i32.const 3) (i32.const 2048) (i32.load (i32.const 1028)))))
        (call $print (i32.const 2048) (i32.load (i32.const 1028)))
        (call $print-number (call $fd_prestat_get (i32.const 4) (i32.const 1024)))
        (call $show %\"file\")
        (call $show %\"inner/file\")
        (call $show %\"./inner/../file\")
        (call $show %\"inside\")
        (call $show %\"inner/back\")
        (call $show %\"nobody\")
        (call $must (i32.eqz (call $open (i32.const 3) %\"new\" (i32.const 1) (i64.const 64))))
        (call $must (i32.eqz (call $path_create_directory (i32.const 3) %\"new-folder\")))
        (call $must (i32.eqz (call $path_rename (i32.const 3) %\"new\" (i32.const 3) %\"new-folder/moved\")))
        (call $must (i32.eqz (call $path_unlink_file (i32.const 3) %\"file\")))";
    granting(Atoll::run(guest(run)), &host, "::/data")
        .outcome()
        .code(0)
        .stdout("/data\n8\ntext\ninner text\ntext\ninner text\ntext\n44\n")
        .stderr("");
    assert!(host.join("new-folder/moved").is_file());
    assert!(!host.join("new").exists() && !host.join("file").exists());
}

#[test]
fn a_read_only_directory() {
    let folders = folders();
    let host = folders.path().join("granted");
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&host)
            .expect("it is there")
            .map(|entry| entry.expect("it is there").file_name())
            .collect();
        names.sort();
        names
    };
    let before = names();
    let show = "(call $show %\"file\") (call $show %\"inner/file\")";
    granting(Atoll::run(guest(show)), &host, "::/data:ro")
        .outcome()
        .code(0)
        .stdout("text\ninner text\n");
    // Write; create; create anew; truncate, even for reading; make, remove, rename, link; through another folder.
    let attempts = [
        "(call $open (i32.const 3) %\"file\" (i32.const 0) (i64.const 64))",
        "(call $open (i32.const 3) %\"file\" (i32.const 0) (i64.const 66))",
        "(call $open (i32.const 3) %\"new\" (i32.const 1) (i64.const 2))",
        "(call $open (i32.const 3) %\"new\" (i32.const 5) (i64.const 64))",
        "(call $open (i32.const 3) %\"file\" (i32.const 8) (i64.const 2))",
        "(call $path_create_directory (i32.const 3) %\"new-folder\")",
        "(call $path_unlink_file (i32.const 3) %\"file\")",
        "(call $path_rename (i32.const 3) %\"file\" (i32.const 3) %\"moved\")",
        "(call $path_symlink %\"file\" (i32.const 3) %\"link\")",
        "(call $open (i32.const 3) %\"inner/new\" (i32.const 1) (i64.const 64))",
        "(call $path_unlink_file (i32.const 3) %\"inner/file\")",
    ];
    let run: String = attempts
        .iter()
        .map(|attempt| format!("(call $print-number {attempt})"))
        .collect();
    check_refused(
        granting(Atoll::run(guest(&run)), &host, "::/data:ro"),
        attempts.len(),
    );
    assert_eq!(names(), before);
    let text = fs::read_to_string(host.join("file")).expect("it is there");
    assert_eq!(text, "text");
}

#[test]
fn no_way_out_of_a_directory() {
    let folders = folders();
    let host = folders.path().join("granted");
    let absolute = format!("%\"{}\"", folders.path().join("secret").display());
    let paths = [
        "%\"../secret\"",
        "%\"..\"",
        "%\"inner/../../secret\"",
        "%\"./../secret\"",
        "%\"/etc/passwd\"",
        "%\"up\"",
        "%\"absolute\"",
        "%\"up-folder/secret\"",
        "%\"parent/secret\"",
        "%\"parent/granted/file\"",
        "%\"root/etc/passwd\"",
        "%\"root\"",
        &absolute,
    ];
    for how in ["::/data", "::/data:ro", "::/", "::."] {
        let run: String = paths
            .iter()
            .map(|path| format!("(call $show {path})"))
            .collect();
        check_refused(granting(Atoll::run(guest(&run)), &host, how), paths.len());
    }
    // The same holds for operations that write.
    let attempts = [
        "(call $open (i32.const 3) %\"../new\" (i32.const 1) (i64.const 64))",
        "(call $path_unlink_file (i32.const 3) %\"../secret\")",
        "(call $path_unlink_file (i32.const 3) %\"up-folder/secret\")",
        "(call $path_create_directory (i32.const 3) %\"../new-folder\")",
        "(call $path_rename (i32.const 3) %\"file\" (i32.const 3) %\"../moved\")",
        "(call $path_rename (i32.const 3) %\"../secret\" (i32.const 3) %\"moved\")",
    ];
    let run: String = attempts
        .iter()
        .map(|attempt| format!("(call $print-number {attempt})"))
        .collect();
    check_refused(
        granting(Atoll::run(guest(&run)), &host, "::/data"),
        attempts.len(),
    );
    assert!(folders.path().join("secret").is_file());
    assert!(folders.path().join("outside/secret").is_file());
    assert!(host.join("file").is_file());
}

#[test]
fn links_that_a_guest_makes_lead_nowhere_else() {
    let folders = folders();
    let host = folders.path().join("granted");
    let run = "
        (drop (call $path_symlink %\"../secret\" (i32.const 3) %\"own-link\"))
        (call $show %\"own-link\")
        (drop (call $path_symlink %\"..\" (i32.const 3) %\"own-folder\"))
        (call $show %\"own-folder/secret\")
        (drop (call $path_symlink %\"/etc\" (i32.const 3) %\"own-root\"))
        (call $show %\"own-root/passwd\")";
    let outcome = granting(Atoll::run(guest(run)), &host, "::/data")
        .outcome()
        .code(0)
        .stderr("");
    for line in outcome.stdout.lines() {
        // If a link could not be made, it does not exist (44).
        assert!(REFUSALS.contains(&line) || line == "44", "\n{outcome}");
    }
}

#[test]
fn several_directories() {
    let folders = folders();
    let run = "
        (call $show %\"file\")
        (call $print-number (call $open (i32.const 4) %\"secret\" (i32.const 0) (i64.const 2)))
        (call $print-number (call $open (i32.const 4) %\"secret\" (i32.const 0) (i64.const 64)))";
    let atoll = granting(
        Atoll::run(guest(run)),
        &folders.path().join("granted"),
        "::/data",
    );
    let outcome = granting(atoll, &folders.path().join("outside"), "::/other:ro")
        .outcome()
        .code(0);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(
        lines[..2] == ["text", "0"] && REFUSALS.contains(&lines[2]),
        "\n{outcome}"
    );
    // The same path for both.
    let name = "
        (call $must (i32.eqz (call $fd_prestat_get (i32.const 3) (i32.const 1024))))
        (call $must (i32.eqz (call $fd_prestat_dir_name (i32.const 3) (i32.const 2048) (i32.load (i32.const 1028)))))
        (call $print (i32.const 2048) (i32.load (i32.const 1028)))";
    let path = folders.path().join("granted");
    for how in ["", ":ro"] {
        granting(Atoll::run(guest(name)), &path, how)
            .outcome()
            .code(0)
            .stdout(&format!("{}\n", path.display()));
    }
}

#[test]
fn clocks_and_randomness_need_no_grant() {
    let run = "
        (local $count i32)
        (call $must (i32.eqz (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 1024))))
        ;; Later than the year 2020.
        (call $must (i64.gt_u (i64.load (i32.const 1024)) (i64.const 1577836800000000000)))
        (loop $again
          (call $must (i32.eqz (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1024))))
          (call $must (i64.ge_u (i64.load (i32.const 1024)) (i64.load (i32.const 1032))))
          (i64.store (i32.const 1032) (i64.load (i32.const 1024)))
          (br_if $again (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
        (call $must (i32.eqz (call $random_get (i32.const 2048) (i32.const 16))))
        (call $must (i32.eqz (call $random_get (i32.const 2064) (i32.const 16))))
        (call $must (i64.ne (i64.load (i32.const 2048)) (i64.load (i32.const 2064))))
        (call $print %\"right\")";
    Atoll::run(guest(run)).outcome().code(0).stdout("right\n");
}

const SOCKETS_WIT: &str = "
package wasi:sockets@0.2.3;
interface network {
    resource network;
    enum error-code {
        unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, concurrency-conflict,
        not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable, address-in-use,
        remote-unreachable, connection-refused, connection-reset, connection-aborted, datagram-too-large,
        name-unresolvable, temporary-resolver-failure, permanent-resolver-failure,
    }
    enum ip-address-family { ipv4, ipv6 }
    type ipv4-address = tuple<u8, u8, u8, u8>;
    type ipv6-address = tuple<u16, u16, u16, u16, u16, u16, u16, u16>;
    record ipv4-socket-address { port: u16, address: ipv4-address }
    record ipv6-socket-address { port: u16, flow-info: u32, address: ipv6-address, scope-id: u32 }
    variant ip-socket-address { ipv4(ipv4-socket-address), ipv6(ipv6-socket-address) }
}
interface instance-network {
    use network.{network};
    instance-network: func() -> network;
}
interface tcp {
    use network.{network, error-code, ip-socket-address};
    use wasi:io/streams@0.2.3.{input-stream, output-stream};
    resource tcp-socket {
        start-connect: func(network: borrow<network>, remote-address: ip-socket-address) -> result<_, error-code>;
        finish-connect: func() -> result<tuple<input-stream, output-stream>, error-code>;
    }
}
interface tcp-create-socket {
    use network.{error-code, ip-address-family};
    use tcp.{tcp-socket};
    create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
}
";

/// A component that connects to a port of this machine, and exits with 0, or with 100 and the error's case.
fn connecting(port: u16) -> Vec<u8> {
    let module = Guest {
        wasi: false,
        imports: r#"
          (import "wasi:sockets/instance-network@0.2.3" "instance-network" (func $network (result i32)))
          (import "wasi:sockets/tcp-create-socket@0.2.3" "create-tcp-socket"
            (func $create (param i32 i32)))
          (import "wasi:sockets/tcp@0.2.3" "[method]tcp-socket.start-connect"
            (func $connect (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
          (import "wasi:sockets/tcp@0.2.3" "[method]tcp-socket.finish-connect" (func $finish (param i32 i32)))"#,
        body: &format!(
            "(func $end (param $error i32)
               (call $exit (i32.const 9) (i32.add (i32.const 100) (local.get $error)) (i32.const 0)))
             (func (export \"run\")
               (call $create (i32.const 0) (i32.const 1024))
               (if (i32.load8_u (i32.const 1024)) (then (call $end (i32.load8_u (i32.const 1028)))))
               (call $connect (i32.load (i32.const 1028)) (call $network)
                 (i32.const 0) (i32.const {port}) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
                 (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1032))
               (if (i32.load8_u (i32.const 1032)) (then (call $end (i32.load8_u (i32.const 1033)))))
               ;; would-block is case 8.
               (loop $again
                 (call $yield-now)
                 (call $finish (i32.load (i32.const 1028)) (i32.const 1032))
                 (br_if $again (i32.and
                   (i32.load8_u (i32.const 1032)) (i32.eq (i32.load8_u (i32.const 1036)) (i32.const 8)))))
               (if (i32.load8_u (i32.const 1032)) (then (call $end (i32.load8_u (i32.const 1036))))))"
        ),
        ..Guest::default()
    }
    .text();
    Component {
        world: "package test:guest;
            world guest {
                include atoll-rt:process/process@0.2.0;
                import wasi:sockets/instance-network@0.2.3;
                import wasi:sockets/tcp-create-socket@0.2.3;
                import wasi:sockets/tcp@0.2.3;
            }",
        module: &module,
    }
    .bytes_with(&[SOCKETS_WIT])
}

#[test]
fn the_network_is_refused_unless_it_is_granted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let component = connecting(port);
    let other = if port == 1 { 2 } else { port - 1 };
    // access-denied is case 1.
    for (grant, code) in [
        ("", 101),
        ("--allow-net=127.0.0.2", 101),
        (&format!("--allow-net=127.0.0.1:{other}"), 101),
        ("--allow-net=127.0.0.1", 0),
        (&format!("--allow-net=127.0.0.1:{port}"), 0),
        ("--allow-net=all", 0),
        ("--allow-net", 0),
    ] {
        let options = [grant].into_iter().filter(|grant| !grant.is_empty());
        Atoll::run(&component)
            .options(options)
            .outcome()
            .code(code)
            .stderr("");
    }
}
