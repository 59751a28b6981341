//! Components that almost, but not quite, only wrap one module: they run as their own text says, or the host refuses them.

use super::{became, valid};
use atoll_tests::{Atoll, Guest};

/// A component as wit-component makes them, around one module that imports one function of the contract.
struct Wrapper<'a> {
    /// The contract's function: its interface, its name, its type, and its type as a core function.
    interface: &'a str,
    function: &'a str,
    ty: &'a str,
    core_params: &'a str,
    core_results: &'a str,
    /// Options of the lowered function and of the lifted `run`. They may name the module's exports by `$m`.
    lower: &'a str,
    lift: &'a str,
    /// The function of the module in between, and the fields of the module that fills its table.
    shim: &'a str,
    fixup: &'a str,
    /// The module's own fields.
    fields: &'a str,
}

/// The module in between usually calls the function in its table, and the other module fills the table.
const SHIM: &str = "(func (export \"0\") (type $t) PARAMS (call_indirect (type $t) (i32.const 0)))";
const FIXUP: &str = "(elem (i32.const 0) func 0)";

impl Wrapper<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Wrapper {
            interface,
            function,
            ty,
            core_params,
            core_results,
            lower,
            lift,
            shim,
            fixup,
            fields,
        } = self;
        let params: String = (0..core_params.matches("i32").count())
            .map(|index| format!("(local.get {index})"))
            .collect();
        let signature = format!("(param {core_params}) {core_results}");
        let shim = shim.replace("PARAMS", &params);
        valid(format!(
            "(component
               (import \"atoll-rt:process/{interface}@0.2.0\" (instance $c
                 (export \"{function}\" (func {ty}))))
               (alias export $c \"{function}\" (func $f))
               (core module $main
                 (import \"atoll-rt:process/{interface}@0.2.0\" \"{function}\" (func $f {signature}))
                 {fields})
               (core module $shim
                 (type $t (func {signature}))
                 (table (export \"$imports\") 1 1 funcref)
                 {shim})
               (core module $fixup
                 (import \"\" \"0\" (func {signature}))
                 (import \"\" \"$imports\" (table 1 1 funcref))
                 {fixup})
               (core instance $s (instantiate $shim))
               (core instance $imports (export \"{function}\" (func $s \"0\")))
               (core instance $m (instantiate $main
                 (with \"atoll-rt:process/{interface}@0.2.0\" (instance $imports))))
               (core func $lowered (canon lower (func $f) {lower}))
               (core instance $x (instantiate $fixup (with \"\" (instance
                 (export \"0\" (func $lowered)) (export \"$imports\" (table $s \"$imports\"))))))
               (func $run (canon lift (core func $m \"run\") {lift}))
               (export \"run\" (func $run)))"
        ))
    }
}

/// Asks for its argument, `hello`, and returns if it finds that text at address 2048 of the memory `$m`.
const ASKS: &str = "
    (func (export \"run\")
      (call $f (i32.const 16))
      (if (i32.ne (i32.load $m (i32.const 16)) (i32.const 2048)) (then (unreachable)))
      (if (i32.ne (i32.load $m (i32.const 20)) (i32.const 5)) (then (unreachable)))
      (if (i32.ne (i32.load $m (i32.const 2048)) (i32.const 0x6c6c6568)) (then (unreachable))))";

/// A `cabi_realloc` that returns 2048.
const MAKES_ROOM: &str = "(param i32 i32 i32 i32) (result i32) (i32.const 2048)";
const MAKES_NONE: &str = "(param i32 i32 i32 i32) (result i32) (unreachable)";

/// A wrapper around a module that asks for its argument. The caller adds the module's fields.
const ARGUMENT: Wrapper<'static> = Wrapper {
    interface: "lifecycle",
    function: "argument",
    ty: "(result (list u8))",
    core_params: "i32",
    core_results: "",
    lower: "(memory (core memory $m \"memory\")) (realloc (core func $m \"cabi_realloc\"))",
    lift: "",
    shim: SHIM,
    fixup: FIXUP,
    fields: "",
};

/// Fields of a module that asks for its argument and has a `cabi_realloc`.
fn asking_fields() -> String {
    format!(
        "(memory $m (export \"memory\") 1) (func (export \"cabi_realloc\") {MAKES_ROOM}) {ASKS}"
    )
}

/// The host refuses each component, or runs it to its code as its own text says. Reports all others together.
#[track_caller]
fn check_arguments(cases: &[(&str, Wrapper<'_>, i32)]) {
    let mut wrong = Vec::new();
    for (what, wrapper, code) in cases {
        let outcome = Atoll::run(wrapper.bytes())
            .options(["--argument", "hello"])
            .outcome();
        let has_crashed = outcome.code == Some(134) && outcome.crashes().len() == 1;
        if !(*code == 134 && has_crashed) && became(&outcome, *code).is_none() {
            wrong.push(format!("{what}: not exit code {code}\n{outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_component_s_lists_come_where_it_says() {
    let usual = asking_fields();
    let other_realloc = format!(
        "(memory $m (export \"memory\") 1) (func (export \"cabi_realloc\") {MAKES_NONE})
         (func (export \"other\") {MAKES_ROOM}) {ASKS}"
    );
    let other_memory = format!(
        "(memory (export \"memory\") 1) (memory $m (export \"other\") 1)
         (func (export \"cabi_realloc\") {MAKES_ROOM}) {ASKS}"
    );
    check_arguments(&[
        (
            "as usual",
            Wrapper {
                fields: &usual,
                ..ARGUMENT
            },
            0,
        ),
        (
            "another realloc",
            Wrapper {
                lower: "(memory (core memory $m \"memory\")) (realloc (core func $m \"other\"))",
                fields: &other_realloc,
                ..ARGUMENT
            },
            0,
        ),
        (
            "another memory",
            Wrapper {
                lower: "(memory (core memory $m \"other\")) (realloc (core func $m \"cabi_realloc\"))",
                fields: &other_memory,
                ..ARGUMENT
            },
            0,
        ),
    ]);
}

#[test]
fn a_component_calls_the_functions_that_it_says_and_no_others() {
    let cleans = asking_fields() + "(func (export \"cleans\") (unreachable))";
    let initializes = asking_fields() + "(func (export \"_initialize\") (unreachable))";
    check_arguments(&[
        (
            "a function for afterwards",
            Wrapper {
                lift: "(post-return (core func $m \"cleans\"))",
                fields: &cleans,
                ..ARGUMENT
            },
            134,
        ),
        (
            "an `_initialize` that nobody calls",
            Wrapper {
                fields: &initializes,
                ..ARGUMENT
            },
            0,
        ),
    ]);
}

#[test]
fn modules_between_a_component_and_its_imports_run_as_their_code_says() {
    let fields = asking_fields();
    let starts = "(func $s (unreachable)) (start $s)";
    let other_address = SHIM.replace("PARAMS", "(i32.const 1024)");
    let shim_starts = format!("{SHIM} {starts}");
    let fixup_starts = format!("{FIXUP} {starts}");
    let with = |what, shim, fixup| {
        let wrapper = Wrapper {
            shim,
            fixup,
            fields: &fields,
            ..ARGUMENT
        };
        (what, wrapper, 134)
    };
    let calls_nothing = "(func (export \"0\") (type $t))";
    let traps = "(func (export \"0\") (type $t) (unreachable))";
    check_arguments(&[
        with("calls nothing", calls_nothing, FIXUP),
        with("traps", traps, FIXUP),
        with("calls with another address", &other_address, FIXUP),
        with("traps at the start", &shim_starts, FIXUP),
        with("fills nothing", SHIM, "(elem declare func 0)"),
        with("traps when it has filled the table", SHIM, &fixup_starts),
    ]);
}

/// A process with the name `é` spawns a component, which looks for it among the names in its own encoding.
#[track_caller]
fn check_encoding(encoding: &str, length: u32, first_bytes: u32) {
    // Zeros follow the text.
    let fields = format!(
        "(memory $m (export \"memory\") 1)
         (global $room (mut i32) (i32.const 2048))
         ;; If a text is shorter than its room, it stays where it is.
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
           (if (local.get 0) (then (return (local.get 0))))
           (global.set $room (i32.add (global.get $room) (i32.const 64)))
           (global.get $room))
         (func (export \"run\")
           (call $f (i32.const 16))
           (if (i32.ne (i32.load (i32.const 20)) (i32.const 1)) (then (unreachable)))
           (if (i32.ne (i32.load offset=4 (i32.load (i32.const 16))) (i32.const {length}))
             (then (unreachable)))
           (if (i32.ne (i32.load (i32.load (i32.load (i32.const 16)))) (i32.const {first_bytes}))
             (then (unreachable))))"
    );
    let lower = format!(
        "(memory (core memory $m \"memory\")) (realloc (core func $m \"cabi_realloc\")) string-encoding={encoding}"
    );
    let component = Wrapper {
        interface: "names",
        function: "registered",
        ty: "(result (list string))",
        lower: &lower,
        fields: &fields,
        ..ARGUMENT
    };
    let body = "
        (func (export \"run\")
          (call $self (i32.const 16))
          (call $register %\"é\" (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 2048))
          (call $must (i32.eqz (i32.load8_u (i32.const 2048))))
          (call $must (i32.eq (i32.const -1)
            (call $try-start-in %\"component\" %\"run\" (i32.const 272))))
          (call $await-end (i32.const 272)))";
    let main = Guest {
        imports: "(import \"atoll-rt:process/names@0.2.0\" \"register\"
            (func $register (param i32 i32 i64 i64 i32)))",
        body,
        ..Guest::default()
    };
    let outcome = Atoll::run(main.text())
        .program("component", component.bytes())
        .outcome();
    assert!(
        became(&outcome, 0).is_some(),
        "{encoding}: it neither ran right nor was refused\n{outcome}"
    );
}

#[test]
fn a_component_s_texts_are_in_the_encoding_that_it_says() {
    check_encoding("utf8", 2, 0xa9c3);
    check_encoding("utf16", 1, 0x00e9);
    check_encoding("latin1+utf16", 1, 0xe9);
}
