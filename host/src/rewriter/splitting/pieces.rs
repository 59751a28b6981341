//! Writes a module with its pieces as functions of their own, after the module's other functions.
//!
//! No function's index changes. A piece is named after the function that it comes from.

use super::super::names;
use super::{Local, Piece};
use std::collections::HashMap;
use std::convert::Infallible;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, Encode, FunctionSection, Instruction, Module, NameMap, NameSection, TypeSection,
    ValType,
};
use wasmparser::{KnownCustom, Name, Operator};

/// The functions of a module, and the pieces of the large ones.
#[derive(Default)]
pub(super) struct Functions {
    pub(super) types: u32,
    /// The number of functions, including imported ones.
    pub(super) functions: u32,
    pub(super) first_body: u32,
    /// The pieces of each large function, by its index.
    pub(super) pieces: HashMap<u32, Vec<Piece>>,
}

/// Writes the module with the given pieces.
pub(super) fn write(bytes: &[u8], found: Functions) -> Result<Vec<u8>, Error<Infallible>> {
    let mut splitter = Splitter::new(bytes, &found);
    // The types of all pieces must be known before the code section is written, so read the code first.
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload? {
            wasmparser::Payload::CodeSectionEntry(body) => splitter.body(&body)?,
            wasmparser::Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    splitter.names(names);
                }
            }
            _ => {}
        }
    }
    let mut module = Module::new();
    splitter.parse_core_module(&mut module, wasmparser::Parser::new(0), bytes)?;
    module.section(&splitter.piece_names());
    Ok(module.finish())
}

struct Splitter<'a> {
    bytes: &'a [u8],
    found: &'a Functions,
    /// The number of functions whose code has been read.
    read: u32,
    /// The code of each large function without its pieces, in the order of the functions.
    rests: Vec<Vec<u8>>,
    /// For each piece: the function that it comes from, its type, and its code.
    written: Vec<(u32, u32, Vec<u8>)>,
    /// The added types, each with its index among them.
    types: HashMap<(Vec<ValType>, Vec<ValType>), u32>,
    names: HashMap<u32, String>,
    /// The numbers of functions, and of large functions, whose code has been written.
    bodies: u32,
    rests_used: usize,
}

impl<'a> Splitter<'a> {
    fn new(bytes: &'a [u8], found: &'a Functions) -> Splitter<'a> {
        Splitter {
            bytes,
            found,
            read: 0,
            rests: Vec::new(),
            written: Vec::new(),
            types: HashMap::new(),
            names: HashMap::new(),
            bodies: 0,
            rests_used: 0,
        }
    }

    /// Reads the next function, and writes its pieces if it has any.
    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), Error<Infallible>> {
        let function = self.found.first_body + self.read;
        self.read += 1;
        let Some(pieces) = self.found.pieces.get(&function) else {
            return Ok(());
        };
        let mut operators = body.get_operators_reader()?;
        let locals = self.bytes[body.range().start..operators.original_position()].to_vec();
        let mut pieces = pieces.iter().peekable();
        // The function, and the pieces around the current instruction.
        let mut open: Vec<(Option<&Piece>, Vec<u8>)> = vec![(None, locals)];
        while !operators.eof() {
            let at = operators.original_position();
            while let Some((ended, code)) =
                open.pop_if(|(piece, _)| piece.is_some_and(|piece| piece.code.end == at))
            {
                let ended = ended.expect("only a piece ends before the function");
                let index = self.add(function, ended, code)?;
                let (around, code) = open.last_mut().expect("the function is around it");
                call(code, *around, ended, index);
            }
            if let Some(begins) = pieces.next_if(|piece| piece.code.start == at) {
                // A piece has no locals beside its parameters.
                open.push((Some(begins), vec![0]));
            }
            let operator = operators.read()?;
            let (piece, code) = open.last_mut().expect("the function is there");
            let end = operators.original_position();
            instruction(code, *piece, &operator, &self.bytes[at..end]);
        }
        let (_, rest) = open.swap_remove(0);
        self.rests.push(rest);
        Ok(())
    }

    /// Finishes a piece's code and adds the piece. Returns the index of its function.
    fn add(
        &mut self,
        function: u32,
        piece: &Piece,
        mut code: Vec<u8>,
    ) -> Result<u32, Error<Infallible>> {
        for (local, _) in (0..).zip(&piece.locals).filter(|(_, local)| local.is_set) {
            Instruction::LocalGet(local).encode(&mut code);
        }
        Instruction::End.encode(&mut code);
        let mut types = |is_passed: fn(&Local) -> bool| {
            let locals = piece.locals.iter().filter(|local| is_passed(local));
            locals
                .map(|local| self.val_type(local.ty))
                .collect::<Result<Vec<_>, _>>()
        };
        let ty = (types(|_| true)?, types(|local| local.is_set)?);
        let next = self.types.len() as u32;
        let ty = *self.types.entry(ty).or_insert(next);
        self.written.push((function, self.found.types + ty, code));
        Ok(self.found.functions + self.written.len() as u32 - 1)
    }

    /// Keeps the names of large functions.
    fn names(&mut self, names: wasmparser::NameSectionReader<'_>) {
        for name in names.into_iter().map_while(Result::ok) {
            let Name::Function(names) = name else {
                continue;
            };
            for naming in names.into_iter().map_while(Result::ok) {
                if self.found.pieces.contains_key(&naming.index) {
                    self.names
                        .insert(naming.index, names::readable(naming.name));
                }
            }
        }
    }

    fn piece_names(&self) -> NameSection {
        let mut functions = NameMap::new();
        for (piece, (function, ..)) in (self.found.functions..).zip(&self.written) {
            match self.names.get(function) {
                Some(name) => functions.append(piece, name),
                None => functions.append(piece, &format!("function {function}")),
            }
        }
        let mut names = NameSection::new();
        names.functions(&functions);
        names
    }
}

/// Returns a local's index in a piece, or in the function itself.
fn local_in(piece: Option<&Piece>, local: u32) -> u32 {
    let Some(piece) = piece else { return local };
    let position = piece
        .locals
        .binary_search_by_key(&local, |local| local.index);
    position.expect("a piece knows the locals that it uses") as u32
}

/// Writes an instruction with new indexes of locals.
fn instruction(code: &mut Vec<u8>, piece: Option<&Piece>, operator: &Operator<'_>, bytes: &[u8]) {
    let local = |index: u32| local_in(piece, index);
    match *operator {
        Operator::LocalGet { local_index } => {
            Instruction::LocalGet(local(local_index)).encode(code)
        }
        Operator::LocalSet { local_index } => {
            Instruction::LocalSet(local(local_index)).encode(code)
        }
        Operator::LocalTee { local_index } => {
            Instruction::LocalTee(local(local_index)).encode(code)
        }
        _ => code.extend_from_slice(bytes),
    }
}

/// Writes the call of a piece into the code around it.
fn call(code: &mut Vec<u8>, around: Option<&Piece>, piece: &Piece, index: u32) {
    let local = |passed: &Local| local_in(around, passed.index);
    for passed in &piece.locals {
        Instruction::LocalGet(local(passed)).encode(code);
    }
    Instruction::Call(index).encode(code);
    for set in piece.locals.iter().rev().filter(|local| local.is_set) {
        Instruction::LocalSet(local(set)).encode(code);
    }
}

impl Reencode for Splitter<'_> {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        let mut added: Vec<_> = self.types.iter().collect();
        added.sort_unstable_by_key(|(_, position)| **position);
        for ((params, results), _) in added {
            types
                .ty()
                .function(params.iter().copied(), results.iter().copied());
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        for (_, ty, _) in &self.written {
            functions.function(*ty);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        for (_, _, piece) in &self.written {
            code.raw(piece);
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), Error> {
        let function = self.found.first_body + self.bodies;
        self.bodies += 1;
        if self.found.pieces.contains_key(&function) {
            code.raw(&self.rests[self.rests_used]);
            self.rests_used += 1;
            return Ok(());
        }
        code.raw(&self.bytes[body.range()]);
        Ok(())
    }

    /// Keeps the names of functions. Other custom sections are dropped: they may refer to offsets that have changed.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        if section.name() == "name" {
            module.section(&utils::custom_section(self, section));
        }
        Ok(())
    }
}
