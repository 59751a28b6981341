//! Makes components from core modules, as the tools of guest authors do.

use atoll_tests::Guest;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract's own world.
pub const PROCESS_WORLD: &str =
    "package test:guest; world guest { include atoll-rt:process/process@0.2.0; }";

/// The functions of WASI that these guests use. The host has more; a component imports those that it needs.
const WASI: &str = "
package wasi:cli@0.2.3;
interface stdout {
    use wasi:io/streams@0.2.3.{output-stream};
    get-stdout: func() -> output-stream;
}
interface environment {
    get-arguments: func() -> list<string>;
}
interface exit { exit: func(status: result); }
interface run { run: func() -> result; }
";
const WASI_IO: &str = "
package wasi:io@0.2.3;
interface error { resource error; }
interface poll { resource pollable; }
interface streams {
    use error.{error};
    variant stream-error { last-operation-failed(error), closed }
    resource input-stream;
    resource output-stream {
        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
    }
}
";

/// A component, made from a core module as the tools of guest authors do.
pub struct Component<'a> {
    /// A WIT package with one world.
    pub world: &'a str,
    /// The module's text.
    pub module: &'a str,
}

impl Component<'_> {
    /// The binary.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with(&[])
    }

    /// The binary, if the world uses more packages.
    pub fn bytes_with(&self, packages: &[&str]) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let contract = include_str!("../../../wit/process.wit");
        for (name, text) in [
            ("process.wit", contract),
            ("io.wit", WASI_IO),
            ("cli.wit", WASI),
        ] {
            resolve.push_str(name, text).expect("the package is right");
        }
        for text in packages {
            resolve
                .push_str("more.wit", text)
                .expect("the package is right");
        }
        let package = resolve
            .push_str("guest.wit", self.world)
            .expect("the world is right");
        let world = resolve
            .select_world(&[package], None)
            .expect("there is one world");
        let mut module = wat::parse_str(self.module).expect("the text is right");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the world can be embedded");
        ComponentEncoder::default()
            .module(&module)
            .expect("the module fits its world")
            .validate(true)
            .encode()
            .expect("the component can be encoded")
    }

    /// A component for the contract that prints by WASI 0.2, which only a component can, and that exports these functions.
    pub fn printing(functions: &str, body: &str) -> Vec<u8> {
        Component::printing_with("", functions, body)
    }

    /// The same, with more imports.
    pub fn printing_with(imports: &str, functions: &str, body: &str) -> Vec<u8> {
        let exports: String = functions
            .split_whitespace()
            .filter(|name| *name != "run")
            .map(|name| format!("export {name}: func();"))
            .collect();
        let world = format!(
            "package test:guest;
             world guest {{
                 include atoll-rt:process/process@0.2.0;
                 import wasi:cli/stdout@0.2.3;
                 {exports}
             }}"
        );
        Component {
            world: &world,
            module: &printing_module(imports, body),
        }
        .bytes()
    }
}

/// The prelude with `$print` and `$print-number` by WASI 0.2.
pub fn printing_module(imports: &str, body: &str) -> String {
    let print = "
      (func $print (param $at i32) (param $bytes i32)
        (memory.copy (i32.const 512) (local.get $at) (local.get $bytes))
        (i32.store8 offset=512 (local.get $bytes) (i32.const 10))
        (call $write (call $get-stdout) (i32.const 512) (i32.add (local.get $bytes) (i32.const 1)) (i32.const 32))
        (call $must (i32.eqz (i32.load8_u (i32.const 32)))))
      (func $print-number (param $number i32)
        (local $at i32)
        (local.set $at (i32.const 1023))
        (loop $digit
          (local.set $at (i32.sub (local.get $at) (i32.const 1)))
          (i32.store8 (local.get $at)
            (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
          (br_if $digit (local.tee $number (i32.div_u (local.get $number) (i32.const 10)))))
        (call $print (local.get $at) (i32.sub (i32.const 1023) (local.get $at))))";
    Guest {
        wasi: false,
        imports: &format!(
            "(import \"wasi:cli/stdout@0.2.3\" \"get-stdout\" (func $get-stdout (result i32)))
             (import \"wasi:io/streams@0.2.3\" \"[method]output-stream.blocking-write-and-flush\"
               (func $write (param i32 i32 i32 i32)))
             {imports}"
        ),
        body: &format!("{print} {body}"),
        ..Guest::default()
    }
    .text()
}
