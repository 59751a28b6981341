//! The functions that a guest can import: those of the contract, and of WASI 0.1.

use std::sync::OnceLock;
use wasm_encoder::{EntityType, ImportSection, Module, TypeSection, ValType};
use wasmparser::{CompositeInnerType, FuncType, Parser, Payload, TypeRef};

/// A function that a guest can import.
#[derive(Clone, Debug)]
pub struct Function {
    pub module: String,
    pub name: String,
    pub params: Vec<ValType>,
    pub result: Option<ValType>,
}

/// The interfaces that only a grant links, and that let a guest stop canaries by right.
const TOOLS: [&str; 2] = ["/inspection@", "/debugging@"];

const WASI: &str = "wasi_snapshot_preview1";
/// The functions of WASI 0.1, with their parameters: `i` is an i32, `I` an i64. All but `proc_exit` return an errno.
const WASI_FUNCTIONS: &str = "\
args_get ii,args_sizes_get ii,environ_get ii,environ_sizes_get ii,clock_res_get ii,clock_time_get iIi,fd_advise iIIi,\
fd_allocate iII,fd_close i,fd_datasync i,fd_fdstat_get ii,fd_fdstat_set_flags ii,fd_fdstat_set_rights iII,\
fd_filestat_get ii,fd_filestat_set_size iI,fd_filestat_set_times iIIi,fd_pread iiiIi,fd_prestat_get ii,\
fd_prestat_dir_name iii,fd_pwrite iiiIi,fd_read iiii,fd_readdir iiiIi,fd_renumber ii,fd_seek iIii,fd_sync i,fd_tell ii,\
fd_write iiii,path_create_directory iii,path_filestat_get iiiii,path_filestat_set_times iiiiIIi,path_link iiiiiii,\
path_open iiiiiIIii,path_readlink iiiiii,path_remove_directory iii,path_rename iiiiii,path_symlink iiiii,\
path_unlink_file iii,poll_oneoff iiii,proc_exit i,sched_yield ,random_get ii,sock_accept iii,sock_recv iiiiii,\
sock_send iiiii,sock_shutdown ii";

impl Function {
    fn is_tool(&self) -> bool {
        TOOLS.iter().any(|part| self.module.contains(part))
    }

    pub fn is_wasi(&self) -> bool {
        self.module == WASI
    }

    /// Whether its first parameters may be texts.
    pub fn takes_text(&self) -> bool {
        let parts = ["/names@", "/groups@"];
        parts.iter().any(|part| self.module.contains(part)) || self.name.starts_with("path_")
    }

    pub fn ends_process(&self) -> bool {
        matches!(self.name.as_str(), "exit" | "proc_exit")
    }

    /// The name by which reports and tables call it.
    pub fn label(&self) -> String {
        let interface = self.module.split('/').next_back().unwrap_or_default();
        let interface = interface.split('@').next().unwrap_or_default();
        match self.is_wasi() {
            true => format!("wasi/{}", self.name),
            false => format!("{interface}/{}", self.name),
        }
    }
}

/// The functions that an attacker may import.
#[derive(Clone, Copy)]
pub struct Offer {
    /// Those of tools as well.
    pub tools: bool,
    /// Those of WASI 0.1 as well.
    pub wasi: bool,
}

impl Offer {
    pub fn has(self, function: &Function) -> bool {
        (self.tools || !function.is_tool()) && (self.wasi || !function.is_wasi())
    }
}

/// Every function that there is.
pub fn all() -> &'static [Function] {
    static ALL: OnceLock<Vec<Function>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = contract();
        all.extend(WASI_FUNCTIONS.split(',').map(wasi));
        all
    })
}

/// A module that imports all that are offered.
pub fn importing_module(offer: Offer) -> Vec<u8> {
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    let offered = all().iter().filter(|function| offer.has(function));
    for (index, function) in (0..).zip(offered) {
        types
            .ty()
            .function(function.params.iter().copied(), function.result);
        let entity = EntityType::Function(index);
        imports.import(&function.module, &function.name, entity);
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    module.finish()
}

fn wasi(line: &str) -> Function {
    let (name, params) = line.split_once(' ').unwrap_or((line, ""));
    let param = |letter| match letter {
        'I' => ValType::I64,
        _ => ValType::I32,
    };
    Function {
        module: WASI.to_owned(),
        name: name.to_owned(),
        params: params.chars().map(param).collect(),
        result: (name != "proc_exit").then_some(ValType::I32),
    }
}

fn contract() -> Vec<Function> {
    let bytes = atoll_rt::contract_module();
    let mut types: Vec<FuncType> = Vec::new();
    let mut functions = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload {
            Ok(Payload::TypeSection(section)) => {
                let groups = section.into_iter().flatten();
                for kind in groups.flat_map(|group| group.into_types()) {
                    if let CompositeInnerType::Func(function) = kind.composite_type.inner {
                        types.push(function);
                    }
                }
            }
            Ok(Payload::ImportSection(section)) => {
                for import in section.into_imports().flatten() {
                    if let TypeRef::Func(index) = import.ty {
                        functions.push(of_contract(
                            import.module,
                            import.name,
                            &types[index as usize],
                        ));
                    }
                }
            }
            _ => {}
        }
    }
    functions
}

fn of_contract(module: &str, name: &str, kind: &FuncType) -> Function {
    let number = |of: &wasmparser::ValType| match of {
        wasmparser::ValType::I64 => ValType::I64,
        _ => ValType::I32,
    };
    Function {
        module: module.to_owned(),
        name: name.to_owned(),
        params: kind.params().iter().map(number).collect(),
        result: kind.results().first().map(number),
    }
}
