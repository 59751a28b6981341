//! Rights: the things that a process may do beyond computing, sending and receiving.

use super::limits::Limits;
use crate::abi::PACKAGE;
use crate::wasi::NetGrant;
use std::fmt;
use std::sync::Arc;

bitflags::bitflags! {
    /// A set of rights: the contract's `right`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Rights: u16 {
        /// The interface `signals`.
        const SIGNALS = 1 << 0;
        /// The interface `names`.
        const NAMES = 1 << 1;
        /// The interface `groups`.
        const GROUPS = 1 << 2;
        /// The interface `timers`.
        const TIMERS = 1 << 3;
        /// The interface `spawning`.
        const SPAWNING = 1 << 4;
        /// The interface `inspection`.
        const INSPECTION = 1 << 5;
        /// The interface `debugging`.
        const DEBUGGING = 1 << 6;
        /// The directories that are granted.
        const FILES = 1 << 7;
        /// The network addresses that are granted.
        const NETWORK = 1 << 8;
        /// The environment variables that are granted.
        const ENVIRONMENT = 1 << 9;
        /// The host's standard input.
        const STANDARD_INPUT = 1 << 10;
        /// Power over processes outside of the process's own tree: exit signals, links, their names and groups,
        /// suspending them.
        const STRANGERS = 1 << 11;
    }
}

/// The rights, each by its name in the contract.
const NAMED: [(&str, Rights); 12] = [
    ("signals", Rights::SIGNALS),
    ("names", Rights::NAMES),
    ("groups", Rights::GROUPS),
    ("timers", Rights::TIMERS),
    ("spawning", Rights::SPAWNING),
    ("inspection", Rights::INSPECTION),
    ("debugging", Rights::DEBUGGING),
    ("files", Rights::FILES),
    ("network", Rights::NETWORK),
    ("environment", Rights::ENVIRONMENT),
    ("standard-input", Rights::STANDARD_INPUT),
    ("strangers", Rights::STRANGERS),
];

/// The rights whose names are interfaces of the contract.
const INTERFACES: Rights = Rights::SIGNALS
    .union(Rights::NAMES)
    .union(Rights::GROUPS)
    .union(Rights::TIMERS)
    .union(Rights::SPAWNING)
    .union(Rights::INSPECTION)
    .union(Rights::DEBUGGING);

impl Rights {
    /// The names of all rights.
    pub fn all_names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// The right with this name.
    pub fn named(name: &str) -> Option<Rights> {
        let found = NAMED.iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }

    /// The names of the rights in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let named = NAMED.iter().filter(move |(_, right)| self.contains(*right));
        named.map(|(name, _)| *name)
    }

    /// The right that a program needs which imports this interface, in any version of the contract.
    pub(crate) fn of_interface(module: &str) -> Rights {
        let name = module.strip_prefix(PACKAGE).unwrap_or_default();
        let name = name.split('@').next().unwrap_or_default();
        Rights::named(name).unwrap_or(Rights::empty()) & INTERFACES
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join(", "))
    }
}

/// The options of a spawn that make its process the root of a tree: limits, and rights that are withheld. They hold for
/// the process and for all that it spawns, beside those of the trees around it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeOptions {
    /// The limits of the tree and of each of its processes.
    pub limits: Limits,
    /// The rights that are withheld.
    pub without: Rights,
    /// Only these directories are passed on, by the paths that guests see. None: all.
    pub directories: Option<Vec<Box<str>>>,
    /// Only these network addresses are passed on. None: all.
    pub network: Option<NetGrant>,
    /// Only these programs may be spawned, beside the process's own. None: all.
    pub programs: Option<Vec<Box<str>>>,
    /// Does the tree have names and groups of its own?
    pub own_names: bool,
}

impl Default for TreeOptions {
    fn default() -> TreeOptions {
        TreeOptions {
            limits: Limits::default(),
            without: Rights::empty(),
            directories: None,
            network: None,
            programs: None,
            own_names: false,
        }
    }
}

impl TreeOptions {
    /// Passes on a network address, beside others that were named. The error says what is wrong with it.
    pub(crate) fn pass_on_address(&mut self, text: &str) -> Result<(), String> {
        let address = NetGrant::parse(text).map_err(|error| error.to_string())?;
        let others = self.network.take().unwrap_or_default();
        self.network = Some(others.and(address));
        Ok(())
    }

    /// These options and the others together: of each limit the smaller one, of each right what both leave.
    pub(crate) fn and(&self, other: TreeOptions) -> TreeOptions {
        let list = |one: &Option<Vec<Box<str>>>, other| {
            let one = one.as_ref().map(|names| names.iter().cloned().collect());
            both(&one, other).map(|names| names.to_vec())
        };
        TreeOptions {
            limits: self.limits.and(&other.limits),
            without: self.without | other.without,
            directories: list(&self.directories, &other.directories),
            network: match (&self.network, other.network) {
                (Some(one), Some(other)) => Some(one.only(&other)),
                (one, other) => other.or_else(|| one.clone()),
            },
            programs: list(&self.programs, &other.programs),
            own_names: self.own_names || other.own_names,
        }
    }
}

/// The rights of the processes of a domain.
#[derive(Clone)]
pub(crate) struct Capabilities {
    pub(crate) rights: Rights,
    pub(crate) directories: Option<Arc<[Box<str>]>>,
    /// None for all that the system grants.
    pub(crate) network: Option<Arc<NetGrant>>,
    pub(crate) programs: Option<Arc<[Box<str>]>>,
}

impl Capabilities {
    /// The rights that a system grants.
    pub(super) fn of_system(rights: Rights) -> Capabilities {
        Capabilities {
            rights,
            directories: (!rights.contains(Rights::FILES)).then(|| Arc::new([]) as Arc<_>),
            network: None,
            programs: None,
        }
    }

    /// The part of these that is passed on to a tree.
    pub(super) fn within(&self, options: &TreeOptions) -> Capabilities {
        let mut within = self.clone();
        within.rights -= options.without;
        within.directories = match within.rights.contains(Rights::FILES) {
            true => both(&self.directories, &options.directories),
            false => Some(Arc::new([])),
        };
        within.programs = both(&self.programs, &options.programs);
        if let Some(network) = &options.network {
            within.network = Some(Arc::new(match &self.network {
                Some(around) => around.only(network),
                None => network.clone(),
            }));
        }
        within
    }

    /// May a process spawn this program, which is not its own?
    pub(crate) fn may_spawn(&self, program: &str) -> bool {
        let programs = self.programs.as_ref();
        programs.is_none_or(|programs| programs.iter().any(|known| &**known == program))
    }
}

/// The names that are in both lists, where no list means all names.
fn both(
    around: &Option<Arc<[Box<str>]>>,
    within: &Option<Vec<Box<str>>>,
) -> Option<Arc<[Box<str>]>> {
    match (around, within) {
        (around, None) => around.clone(),
        (None, Some(within)) => Some(within.iter().cloned().collect()),
        (Some(around), Some(within)) => {
            let kept = within.iter().filter(|name| around.contains(name));
            Some(kept.cloned().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_has_a_name() {
        let all = NAMED
            .iter()
            .fold(Rights::empty(), |all, (_, right)| all | *right);
        assert_eq!(all, Rights::all());
        for (name, right) in NAMED {
            assert_eq!(Rights::named(name), Some(right));
            assert_eq!(right.to_string(), name);
        }
    }

    #[test]
    fn an_interface_needs_the_right_of_its_name() {
        let right = |name: &str| Rights::of_interface(&format!("{PACKAGE}{name}@0.2.0"));
        assert_eq!(right("names"), Rights::NAMES);
        assert_eq!(right("debugging"), Rights::DEBUGGING);
        assert_eq!(right("mailbox"), Rights::empty());
        assert_eq!(right("files"), Rights::empty());
        assert_eq!(Rights::of_interface("names"), Rights::empty());
    }

    #[test]
    fn what_is_passed_on_only_gets_less() {
        let list = |names: &[&str]| Some(names.iter().map(|name| Box::from(*name)).collect());
        let system = Capabilities::of_system(Rights::all());
        let outer = system.within(&TreeOptions {
            without: Rights::NETWORK,
            programs: list(&["a", "b"]),
            ..TreeOptions::default()
        });
        let inner = outer.within(&TreeOptions {
            without: Rights::NAMES,
            programs: list(&["b", "c"]),
            directories: list(&[]),
            ..TreeOptions::default()
        });
        assert!(!inner.rights.intersects(Rights::NETWORK | Rights::NAMES));
        assert!(outer.may_spawn("a") && !inner.may_spawn("a"));
        assert!(inner.may_spawn("b") && !inner.may_spawn("c"));
        assert!(system.may_spawn("c"));
        assert_eq!(inner.directories.map(|list| list.len()), Some(0));
    }
}
