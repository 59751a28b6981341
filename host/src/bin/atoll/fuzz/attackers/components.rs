//! Attackers that are components: a module that calls functions of the contract with every edge of their operands, and whose
//! values wasmtime lifts and lowers.

use super::calls;
use super::functions::Offer;
use crate::fuzz::dice::Dice;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const CONTRACT: &str = include_str!("../../../../../../wit/process.wit");

/// A core module section with an empty module. A component that holds two modules is not unwrapped.
const SECOND_MODULE: [u8; 10] = [1, 8, 0, b'a', b's', b'm', 1, 0, 0, 0];

/// Makes a component, or the module alone if it can't be put into one.
pub fn make(dice: &mut Dice, tools: bool) -> Vec<u8> {
    let module = calls::make(dice, Offer { tools, wasi: false });
    match component(module.clone()) {
        Ok(mut component) => {
            component.extend(SECOND_MODULE);
            component
        }
        Err(_) => module,
    }
}

fn component(mut module: Vec<u8>) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("process.wit", CONTRACT)?;
    let world = resolve.select_world(&[package], Some("process"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    Ok(ComponentEncoder::default()
        .module(&module)?
        .validate(false)
        .encode()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_rt::{Inspection, Path};

    #[test]
    fn most_attackers_become_components_that_stay_components() {
        let mut dice = Dice::new(7);
        let made = (0..40).map(|_| make(&mut dice, true));
        let components = made.filter(|bytes| {
            Inspection::of(bytes).is_ok_and(|inspection| inspection.path == Path::Component)
        });
        assert!(components.count() > 20);
    }
}
