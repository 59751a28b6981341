//! The contract's functions as core modules see them: the canonical ABI's lowering of `wit/`, as data.
//!
//! The loader checks imports against this table, the rewriter takes from it which imports need glue, and the linker
//! defines exactly these. Memory layouts are in [`layout`].

use wasmparser::ValType::{self, I32, I64};

/// The contract's package, as it stands in import names.
pub(crate) const PACKAGE: &str = "atoll-rt:process/";
/// The module that rewritten imports come from. No guest may import from it itself.
pub(crate) const RAW_MODULE: &str = "atoll:raw";
/// Copies the bytes that a raw function announced to where glue has made room for them: `(pointer)`.
pub(crate) const RAW_TAKE: &str = "take";
/// Ends the process's turn: `(what was left of the slice)`.
pub(crate) const RAW_PAUSE: &str = "pause";

/// Says what growing a memory has cost, in reductions, because it had to move: `() -> i64`.
pub(crate) const RAW_MOVED: &str = "moved";

/// Copying so many bytes costs a reduction, whoever does it: the host or the guest's own code.
pub(crate) const BYTES_PER_REDUCTION: u64 = 64;

/// How a function of the contract is carried out by the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// By one call, which does everything.
    Direct,
    /// By a call that may answer "again", a negative number, when the process has to give up its turn first. What else it
    /// answers is the function's result, if it has one.
    Retry,
    /// The same, and it may leave lists, for which the guest's `cabi_realloc` has to make room. It answers with an i64:
    /// 0 for none, else the first list's size in bytes, and its alignment from bit 32 on. Taking a list answers in the
    /// same way for the next one.
    RetryThenLists,
    /// The same for one list that is a message's payload, whose pointer belongs so far behind the result's address. A short
    /// one comes with the answer ([`SHORT`]): the function answers with two i64 more, which hold it.
    RetryThenPayload(u64),
}

/// What an answer is marked with if the payload comes with it.
pub(crate) const SHORT: i64 = 1 << 40;
/// The longest payload that does, in bytes.
pub(crate) const SHORT_BYTES_MAX: usize = 16;

impl Shape {
    /// May the host leave lists for the guest to make room for?
    pub(crate) fn leaves_lists(self) -> bool {
        matches!(self, Shape::RetryThenLists | Shape::RetryThenPayload(_))
    }

    /// The results of the raw function that glue calls.
    pub(crate) fn raw_answers(self) -> &'static [ValType] {
        match self {
            Shape::Direct | Shape::Retry => &[ValType::I32],
            Shape::RetryThenLists => &[ValType::I64],
            Shape::RetryThenPayload(_) => &[ValType::I64; 3],
        }
    }
}

/// One function of the contract.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) interface: &'static str,
    pub(crate) name: &'static str,
    pub(crate) params: &'static [ValType],
    pub(crate) results: &'static [ValType],
    pub(crate) shape: Shape,
}

macro_rules! function {
    ($interface:literal $name:literal ($($param:ident)*) -> ($($result:ident)*) $shape:ident $(($at:literal))?) => {
        Function {
            interface: concat!("atoll-rt:process/", $interface, "@0.2.0"),
            name: $name,
            params: &[$($param),*],
            results: &[$($result),*],
            shape: Shape::$shape $(($at))?,
        }
    };
}

/// All of them.
pub(crate) const FUNCTIONS: &[Function] = &[
    function!("lifecycle" "self" (I32) -> () Direct),
    function!("lifecycle" "argument" (I32) -> () RetryThenLists),
    function!("lifecycle" "exit" (I32 I32 I32) -> () Direct),
    function!("lifecycle" "is-alive" (I64 I64) -> (I32) Retry),
    function!("lifecycle" "yield-now" () -> () Retry),
    function!("lifecycle" "set-priority" (I32) -> (I32) Direct),
    function!("lifecycle" "hibernate" () -> () Direct),
    function!("mailbox" "send" (I64 I64 I32 I32 I64 I64 I32 I32 I32) -> () Retry),
    function!("mailbox" "send-named" (I32 I32 I32 I32 I64 I64 I32 I32 I32) -> (I32) Retry),
    function!("mailbox" "receive" (I32 I64 I64 I32 I64 I32) -> () RetryThenPayload(68)),
    function!("mailbox" "make-reference" (I32) -> () Direct),
    function!("mailbox" "call" (I32 I64 I64 I32 I32 I32 I32 I32 I64 I32) -> () RetryThenPayload(60)),
    function!("mailbox" "reply" (I64 I64 I64 I64 I32 I32 I32 I32) -> () Retry),
    function!("mailbox" "alias" (I32) -> () Retry),
    function!("mailbox" "unalias" (I64 I64) -> (I32) Retry),
    function!("signals" "exit-process" (I64 I64 I32 I32 I32) -> () Retry),
    function!("signals" "trap-exit" (I32) -> (I32) Direct),
    function!("signals" "link" (I64 I64) -> () Retry),
    function!("signals" "unlink" (I64 I64) -> () Retry),
    function!("signals" "monitor" (I32 I64 I64 I32) -> () Retry),
    function!("signals" "demonitor" (I64 I64 I32) -> (I32) Retry),
    function!("names" "register" (I32 I32 I64 I64 I32) -> () Retry),
    function!("names" "unregister" (I32 I32) -> (I32) Retry),
    function!("names" "whereis" (I32 I32 I32) -> () Retry),
    function!("names" "registered" (I32) -> () RetryThenLists),
    function!("groups" "join" (I32 I32 I64 I64 I32) -> () Retry),
    function!("groups" "leave" (I32 I32 I64 I64) -> (I32) Retry),
    function!("groups" "members" (I32 I32 I32) -> () RetryThenLists),
    function!("groups" "which-groups" (I32) -> () RetryThenLists),
    function!("groups" "monitor" (I32 I32 I32) -> () RetryThenLists),
    function!("groups" "demonitor" (I64 I64) -> (I32) Retry),
    function!("timers" "send-after" (I64 I32 I64 I64 I32 I32 I64 I64 I32 I32 I32 I32) -> () Retry),
    function!("timers" "start-timer" (I64 I32 I64 I64 I32 I32) -> () Retry),
    function!("timers" "cancel-timer" (I64 I64 I32) -> () Retry),
    function!("timers" "read-timer" (I64 I64 I32) -> () Retry),
    function!("spawning" "spawn" (I32 I32 I32 I32 I32 I32 I32 I32 I32 I32) -> () RetryThenLists),
    function!("inspection" "processes" (I32) -> () RetryThenLists),
    function!("inspection" "info" (I64 I64 I32) -> () RetryThenLists),
    function!("inspection" "counters" (I32) -> () Retry),
    function!("debugging" "suspend" (I64 I64) -> (I32) Retry),
    function!("debugging" "resume" (I64 I64) -> (I32) Retry),
];

/// The name by which core modules import an interface of the contract.
pub(crate) fn interface_module(interface: &str) -> String {
    format!("{PACKAGE}{interface}@0.2.0")
}

impl Function {
    /// What a rewritten import is called: names like `monitor` are those of several interfaces.
    pub(crate) fn raw_name(&self) -> String {
        let interface = self.interface.strip_prefix(PACKAGE).unwrap_or_default();
        format!("{interface}/{}", self.name)
    }
}

/// The function that a core module imports under these names.
pub(crate) fn function(module: &str, name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .iter()
        .find(|function| function.interface == module && function.name == name)
}

/// Where the canonical ABI puts things in memory. Checked against `wit/` by a test.
pub(crate) mod layout {
    /// `pid` and `reference`: two u64.
    pub(crate) const ID_BYTES: usize = 16;
    /// `option<pid>`.
    pub(crate) const OPTION_PID_BYTES: usize = 24;
    /// `option<duration>`.
    pub(crate) const OPTION_DURATION_BYTES: usize = 16;
    /// `result<pid, spawn-error>`.
    pub(crate) const SPAWN_RESULT_BYTES: usize = 24;
    /// `result<_, register-error>` and `result<_, join-error>`.
    pub(crate) const RESULT_ENUM_BYTES: usize = 2;
    /// `option<event>`.
    pub(crate) const OPTION_EVENT_BYTES: usize = 80;
    /// `result<message, call-error>`.
    pub(crate) const CALL_RESULT_BYTES: usize = 72;
    /// `monitored-group`.
    pub(crate) const MONITORED_GROUP_BYTES: usize = 24;
    /// `option<process-info>`.
    pub(crate) const OPTION_INFO_BYTES: usize = 160;
    /// `destination`.
    pub(crate) const DESTINATION_BYTES: usize = 24;
    /// `system-counters`.
    pub(crate) const COUNTERS_BYTES: usize = 56;
    /// One element of `list<spawn-option>`.
    pub(crate) const SPAWN_OPTION_BYTES: usize = 24;
}

#[cfg(test)]
mod tests {
    use super::*;
    use wit_parser::abi::{AbiVariant, WasmType};
    use wit_parser::{Resolve, SizeAlign};

    fn contract() -> Resolve {
        let mut resolve = Resolve::default();
        resolve
            .push_str("process.wit", include_str!("../../wit/process.wit"))
            .expect("the contract is well-formed");
        resolve
    }

    /// What the table says of every function is what the canonical ABI makes of the WIT, and none is left out.
    #[test]
    fn the_table_is_the_lowering_of_the_contract() {
        let resolve = contract();
        let mut lowered = Vec::new();
        for (id, interface) in &resolve.interfaces {
            for function in interface.functions.values() {
                let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                let types = |types: &[WasmType]| -> Vec<ValType> {
                    types
                        .iter()
                        .map(|ty| match ty {
                            WasmType::I64 | WasmType::PointerOrI64 => I64,
                            _ => I32,
                        })
                        .collect()
                };
                let module = resolve.id_of(id).expect("interfaces of a package have ids");
                lowered.push((
                    module,
                    function.name.clone(),
                    types(&signature.params),
                    types(&signature.results),
                ));
            }
        }
        lowered.sort_by_key(|(module, name, ..)| (module.clone(), name.clone()));
        let mut table: Vec<_> = FUNCTIONS
            .iter()
            .map(|function| {
                let owned = |types: &[ValType]| types.to_vec();
                (
                    function.interface.to_owned(),
                    function.name.to_owned(),
                    owned(function.params),
                    owned(function.results),
                )
            })
            .collect();
        table.sort_by_key(|(module, name, ..)| (module.clone(), name.clone()));
        assert_eq!(lowered, table);
    }

    #[test]
    fn the_layouts_are_those_of_the_contract() {
        let resolve = contract();
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let size_of_result = |interface: &str, function: &str| {
            let (_, interface) = resolve
                .interfaces
                .iter()
                .find(|(_, candidate)| candidate.name.as_deref() == Some(interface))
                .expect("the interface exists");
            let result = interface.functions[function]
                .result
                .expect("it returns something");
            sizes.size(&result).size_wasm32()
        };
        let size_of = |name: &str| {
            let (id, _) = resolve
                .types
                .iter()
                .find(|(_, ty)| ty.name.as_deref() == Some(name))
                .expect("the type exists");
            sizes.size(&wit_parser::Type::Id(id)).size_wasm32()
        };
        assert_eq!(size_of("pid"), layout::ID_BYTES);
        assert_eq!(size_of("reference"), layout::ID_BYTES);
        assert_eq!(size_of("destination"), layout::DESTINATION_BYTES);
        assert_eq!(size_of("spawn-option"), layout::SPAWN_OPTION_BYTES);
        for (interface, function, bytes) in [
            ("mailbox", "receive", layout::OPTION_EVENT_BYTES),
            ("mailbox", "call", layout::CALL_RESULT_BYTES),
            ("spawning", "spawn", layout::SPAWN_RESULT_BYTES),
            ("names", "register", layout::RESULT_ENUM_BYTES),
            ("names", "whereis", layout::OPTION_PID_BYTES),
            ("groups", "join", layout::RESULT_ENUM_BYTES),
            ("groups", "monitor", layout::MONITORED_GROUP_BYTES),
            ("timers", "cancel-timer", layout::OPTION_DURATION_BYTES),
            ("inspection", "info", layout::OPTION_INFO_BYTES),
            ("inspection", "counters", layout::COUNTERS_BYTES),
        ] {
            assert_eq!(size_of_result(interface, function), bytes, "{function}");
        }
    }
}
