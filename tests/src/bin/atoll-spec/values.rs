//! The suite's values: its arguments as the harness takes them, and the comparison of its results with the harness's.

use atoll_rt::harness::Value;
use wast::core::{NanPattern, V128Const, V128Pattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};

/// An argument. None if its type is off.
pub fn argument(argument: &WastArg<'_>) -> Option<Value> {
    let WastArg::Core(argument) = argument else {
        return None;
    };
    Some(match argument {
        WastArgCore::I32(value) => Value::I32(*value),
        WastArgCore::I64(value) => Value::I64(*value),
        WastArgCore::F32(value) => Value::F32(value.bits),
        WastArgCore::F64(value) => Value::F64(value.bits),
        WastArgCore::V128(value) => Value::V128(v128(value)),
        WastArgCore::RefNull(_) => Value::Null,
        WastArgCore::RefExtern(_) | WastArgCore::RefHost(_) => return None,
    })
}

fn v128(value: &V128Const) -> u128 {
    u128::from_le_bytes(value.to_le_bytes())
}

/// The results that a step may have. They own what the parsed file lends.
#[derive(Clone, Debug)]
pub enum Expected {
    Exactly(Value),
    /// Any reference to a function.
    Function,
    F32(Nan),
    F64(Nan),
    F32x4([Lane<u32>; 4]),
    F64x2([Lane<u64>; 2]),
    Either(Vec<Expected>),
}

/// The kinds of NaNs that the suite tells apart.
#[derive(Clone, Copy, Debug)]
pub enum Nan {
    Canonical,
    Arithmetic,
}

#[derive(Clone, Copy, Debug)]
pub enum Lane<T> {
    Exactly(T),
    Nan(Nan),
}

/// A result. None if its type is off.
pub fn expected(result: &WastRet<'_>) -> Option<Expected> {
    match result {
        WastRet::Core(result) => expected_core(result),
        _ => None,
    }
}

fn expected_core(result: &WastRetCore<'_>) -> Option<Expected> {
    Some(match result {
        WastRetCore::I32(value) => Expected::Exactly(Value::I32(*value)),
        WastRetCore::I64(value) => Expected::Exactly(Value::I64(*value)),
        WastRetCore::F32(pattern) => match lane(pattern, |value| value.bits) {
            Lane::Exactly(bits) => Expected::Exactly(Value::F32(bits)),
            Lane::Nan(nan) => Expected::F32(nan),
        },
        WastRetCore::F64(pattern) => match lane(pattern, |value| value.bits) {
            Lane::Exactly(bits) => Expected::Exactly(Value::F64(bits)),
            Lane::Nan(nan) => Expected::F64(nan),
        },
        WastRetCore::V128(pattern) => expected_v128(pattern),
        WastRetCore::RefNull(_) => Expected::Exactly(Value::Null),
        WastRetCore::RefFunc(_) => Expected::Function,
        WastRetCore::Either(cases) => {
            let cases: Option<Vec<Expected>> = cases.iter().map(expected_core).collect();
            Expected::Either(cases?)
        }
        _ => return None,
    })
}

fn expected_v128(pattern: &V128Pattern) -> Expected {
    let constant = match pattern {
        V128Pattern::I8x16(lanes) => V128Const::I8x16(*lanes),
        V128Pattern::I16x8(lanes) => V128Const::I16x8(*lanes),
        V128Pattern::I32x4(lanes) => V128Const::I32x4(*lanes),
        V128Pattern::I64x2(lanes) => V128Const::I64x2(*lanes),
        V128Pattern::F32x4(lanes) => {
            return Expected::F32x4(std::array::from_fn(|index| {
                lane(&lanes[index], |value| value.bits)
            }));
        }
        V128Pattern::F64x2(lanes) => {
            return Expected::F64x2(std::array::from_fn(|index| {
                lane(&lanes[index], |value| value.bits)
            }));
        }
    };
    Expected::Exactly(Value::V128(v128(&constant)))
}

fn lane<T, B>(pattern: &NanPattern<T>, bits: impl Fn(&T) -> B) -> Lane<B> {
    match pattern {
        NanPattern::CanonicalNan => Lane::Nan(Nan::Canonical),
        NanPattern::ArithmeticNan => Lane::Nan(Nan::Arithmetic),
        NanPattern::Value(value) => Lane::Exactly(bits(value)),
    }
}

impl Nan {
    fn matches_f32(self, bits: u32) -> bool {
        match self {
            Nan::Canonical => bits & 0x7fff_ffff == 0x7fc0_0000,
            Nan::Arithmetic => bits & 0x7fc0_0000 == 0x7fc0_0000,
        }
    }

    fn matches_f64(self, bits: u64) -> bool {
        match self {
            Nan::Canonical => bits & !(1 << 63) == 0x7ff8_0000_0000_0000,
            Nan::Arithmetic => bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        }
    }
}

impl Expected {
    /// Is this the result, or one of the possible ones?
    pub fn matches(&self, found: Value) -> bool {
        match (self, found) {
            (Expected::Exactly(value), found) => *value == found,
            (Expected::Function, found) => found == Value::Function,
            (Expected::F32(nan), Value::F32(bits)) => nan.matches_f32(bits),
            (Expected::F64(nan), Value::F64(bits)) => nan.matches_f64(bits),
            (Expected::F32x4(lanes), Value::V128(bits)) => {
                lanes.iter().enumerate().all(|(index, lane)| {
                    let bits = (bits >> (32 * index)) as u32;
                    match lane {
                        Lane::Exactly(value) => *value == bits,
                        Lane::Nan(nan) => nan.matches_f32(bits),
                    }
                })
            }
            (Expected::F64x2(lanes), Value::V128(bits)) => {
                lanes.iter().enumerate().all(|(index, lane)| {
                    let bits = (bits >> (64 * index)) as u64;
                    match lane {
                        Lane::Exactly(value) => *value == bits,
                        Lane::Nan(nan) => nan.matches_f64(bits),
                    }
                })
            }
            (Expected::Either(cases), found) => cases.iter().any(|case| case.matches(found)),
            _ => false,
        }
    }
}

/// Is this the trap that the suite names? wasmtime words some traps differently.
pub fn is_trap(named: &str, found: &str) -> bool {
    let found = found.strip_prefix("wasm trap: ").unwrap_or(found);
    found.contains(named)
        || named.starts_with("uninitialized element") && found.contains("uninitialized element")
        || named.starts_with("null") && found.contains("null reference")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nans_are_told_apart() {
        let canonical = Expected::F32(Nan::Canonical);
        assert!(canonical.matches(Value::F32(0x7fc0_0000)));
        assert!(canonical.matches(Value::F32(0xffc0_0000)));
        assert!(!canonical.matches(Value::F32(0x7fc0_0001)));
        let arithmetic = Expected::F64(Nan::Arithmetic);
        assert!(arithmetic.matches(Value::F64(0xfff8_0000_0000_0001)));
        assert!(!arithmetic.matches(Value::F64(0x7ff0_0000_0000_0001)));
        let lanes = Expected::F64x2([Lane::Exactly(1), Lane::Nan(Nan::Canonical)]);
        assert!(lanes.matches(Value::V128((0x7ff8_u128 << 112) | 1)));
        assert!(!lanes.matches(Value::V128(1)));
    }

    #[test]
    fn traps_are_known_by_either_name() {
        assert!(is_trap("integer overflow", "wasm trap: integer overflow"));
        assert!(is_trap(
            "uninitialized element 7",
            "wasm trap: uninitialized element"
        ));
        assert!(!is_trap(
            "integer overflow",
            "wasm trap: integer divide by zero"
        ));
    }
}
