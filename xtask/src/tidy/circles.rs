//! Files of the host that import one another in a circle: no reader can begin with any of them.
//!
//! A file imports another if it names something that the other file defines, by a path from `super` or `crate`. A file
//! may name its own ancestors, which hold what all of a folder share; those imports do not count. Tests do not count
//! either.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

const HOST: &str = "host/src/";

/// The files of the host, each with the paths that it names.
#[derive(Default)]
pub(super) struct Imports {
    /// By module: the paths, each from the crate's root on.
    paths: BTreeMap<Vec<String>, Vec<Vec<String>>>,
}

impl Imports {
    /// Notes the imports of a file, if it is one of the host's.
    pub(super) fn add(&mut self, path: &str, text: &str) -> Result<()> {
        let Some(module) = module_of(path) else {
            return Ok(());
        };
        let file = syn::parse_file(text).with_context(|| format!("reading {path}"))?;
        let mut named = Named {
            module: module.clone(),
            paths: Vec::new(),
        };
        named.visit_file(&file);
        self.paths.insert(module, named.paths);
        Ok(())
    }

    /// The first circle, as a breach of the rules.
    pub(super) fn circle(&self) -> Option<String> {
        let graph = self.graph();
        let mut done = BTreeSet::new();
        let mut way = Vec::new();
        let circle = graph
            .keys()
            .find_map(|module| circle_from(&graph, module, &mut done, &mut way))?;
        let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        Some(format!(
            "{HOST}: files import one another in a circle: {}",
            names.join(" -> ")
        ))
    }

    /// For each file the files that it imports.
    fn graph(&self) -> Graph<'_> {
        let imported = |module: &[String], paths: &[Vec<String>]| {
            let files = paths.iter().filter_map(|path| self.file_of(path));
            let others = files.filter(|file| !module.starts_with(file));
            others.collect()
        };
        self.paths
            .iter()
            .map(|(module, paths)| (module.as_slice(), imported(module, paths)))
            .collect()
    }

    /// The file that defines what a path names: the longest beginning of the path that is a file.
    fn file_of(&self, path: &[String]) -> Option<&[String]> {
        (1..=path.len()).rev().find_map(|length| {
            let (file, _) = self.paths.get_key_value(&path[..length])?;
            Some(file.as_slice())
        })
    }
}

type Graph<'a> = BTreeMap<&'a [String], BTreeSet<&'a [String]>>;

/// Walks on from a file. Returns the circle that it meets: the last file is the first again.
fn circle_from<'a>(
    graph: &Graph<'a>,
    file: &'a [String],
    done: &mut BTreeSet<&'a [String]>,
    way: &mut Vec<&'a [String]>,
) -> Option<Vec<&'a [String]>> {
    if let Some(start) = way.iter().position(|before| *before == file) {
        let mut circle = way[start..].to_vec();
        circle.push(file);
        return Some(circle);
    }
    if !done.insert(file) {
        return None;
    }
    way.push(file);
    let imported = graph.get(file).into_iter().flatten();
    let found = imported
        .copied()
        .find_map(|next| circle_from(graph, next, done, way));
    way.pop();
    found
}

/// The module of a file of the host that is no test, from the crate's root on.
fn module_of(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix(HOST)?.strip_suffix(".rs")?;
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if module[0] == "bin" || module[0] == "lib" || module.iter().any(|name| name == "tests") {
        return None;
    }
    module.pop_if(|name| name == "mod");
    Some(module)
}

/// Gathers the paths of one file.
struct Named {
    module: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Named {
    /// Notes a path whose first words are `super` or `crate`.
    fn note(&mut self, path: &[String]) {
        let supers = path.iter().take_while(|word| *word == "super").count();
        if supers > self.module.len() {
            return;
        }
        let (base, rest) = match path.first().map(String::as_str) {
            Some("crate") => (&[][..], &path[1..]),
            Some("super") => {
                let ancestors = self.module.len() - supers;
                (&self.module[..ancestors], &path[supers..])
            }
            _ => return,
        };
        self.paths.push([base, rest].concat());
    }

    fn note_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_tree(before, tree);
                }
            }
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.note(before),
        }
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.note_tree(&[], &item.tree);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // A module inside a file counts from one level deeper.
        if !is_for_tests(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.note(&words);
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let names_test = |list: &syn::MetaList| list.tokens.to_string() == "test";
        attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(names_test)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(files: &[(&str, &str)]) -> Option<String> {
        let mut imports = Imports::default();
        for (path, text) in files {
            imports.add(path, text).unwrap();
        }
        imports.circle()
    }

    #[test]
    fn a_circle_is_told_in_every_form() {
        let one = ("host/src/a/one.rs", "use super::two::{self, Two};");
        for two in [
            "use super::three::Three;",
            "use crate::{x::Y, a::three::Three};",
            "fn f() { super::three::run() }",
        ] {
            let files = [
                one,
                ("host/src/a/two.rs", two),
                ("host/src/a/three/mod.rs", "use super::one as other;"),
            ];
            let told = circle(&files).expect(two);
            assert!(
                told.ends_with("a::one -> a::two -> a::three -> a::one"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_a_folder_shares_and_what_tests_use_is_no_circle() {
        let files = [
            (
                "host/src/a/mod.rs",
                "mod one; use one::One; use self::two::Two;",
            ),
            ("host/src/a/one.rs", "use super::{Shared, two::Two};"),
            (
                "host/src/a/two.rs",
                "#[cfg(test)] mod tests { use super::super::one::One; } #[cfg(test)] use super::one::One;",
            ),
            ("host/src/a/two/tests.rs", "use crate::a::one::One;"),
            ("host/src/bin/program.rs", "use crate::a::one::One;"),
        ];
        assert_eq!(circle(&files), None);
    }
}
