//! The names of WASI's functions and interfaces, to classify a file's imports without linking it.

/// The functions of preview 1.
const PREVIEW1_FUNCTIONS: &str = "args_get args_sizes_get clock_res_get clock_time_get environ_get environ_sizes_get \
    fd_advise fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get \
    fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_dir_name fd_prestat_get fd_pwrite fd_read fd_readdir \
    fd_renumber fd_seek fd_sync fd_tell fd_write path_create_directory path_filestat_get path_filestat_set_times \
    path_link path_open path_readlink path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff \
    proc_exit proc_raise random_get sched_yield sock_accept sock_recv sock_send sock_shutdown";

/// The interfaces of preview 2, version 0.2.
const PREVIEW2_INTERFACES: &str = "cli/environment cli/exit cli/stdin cli/stdout cli/stderr cli/terminal-input \
    cli/terminal-output cli/terminal-stdin cli/terminal-stdout cli/terminal-stderr clocks/monotonic-clock \
    clocks/wall-clock filesystem/preopens filesystem/types io/error io/poll io/streams random/insecure \
    random/insecure-seed random/random sockets/instance-network sockets/ip-name-lookup sockets/network sockets/tcp \
    sockets/tcp-create-socket sockets/udp sockets/udp-create-socket";

/// Is this a function of preview 1?
pub(crate) fn is_preview1_function(name: &str) -> bool {
    PREVIEW1_FUNCTIONS
        .split_ascii_whitespace()
        .any(|function| function == name)
}

/// Is this an interface of preview 2, in a version that is linked?
pub(crate) fn is_preview2_interface(name: &str) -> bool {
    let parts = name
        .strip_prefix("wasi:")
        .and_then(|name| name.split_once('@'));
    parts.is_some_and(|(interface, version)| {
        version.starts_with("0.2.")
            && PREVIEW2_INTERFACES
                .split_ascii_whitespace()
                .any(|known| known == interface)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasi::{Guest, Preview1};
    use wasmtime::{Engine, Linker, Store};

    struct Nobody;

    impl Guest for Nobody {
        fn preview1(&mut self) -> &mut Preview1 {
            unreachable!("nothing is called")
        }

        fn survives(&self) -> wasmtime::Result<()> {
            Ok(())
        }

        fn pay(&mut self, _reductions: u64) -> bool {
            false
        }
    }

    /// The list has exactly the functions that are linked.
    #[test]
    fn the_list_names_the_linked_functions() {
        let engine = Engine::default();
        let mut linker: Linker<Nobody> = Linker::new(&engine);
        super::super::add_preview1(&mut linker).expect("it can be linked");
        let mut store = Store::new(&engine, Nobody);
        let mut linked: Vec<String> = linker
            .iter(&mut store)
            .map(|(module, name, _)| {
                assert_eq!(module, super::super::preview1::PREVIEW1);
                name.to_owned()
            })
            .collect();
        linked.sort();
        let mut listed: Vec<_> = PREVIEW1_FUNCTIONS.split_ascii_whitespace().collect();
        listed.sort_unstable();
        assert_eq!(linked, listed);
    }

    #[test]
    fn preview2_has_interfaces_and_versions() {
        assert!(is_preview2_interface("wasi:cli/stdout@0.2.6"));
        for wrong in [
            "wasi:cli/stdout@0.3.0",
            "wasi:cli/stdout",
            "wasi:nonsense/nobody@0.2.0",
            "other:cli/stdout@0.2.0",
        ] {
            assert!(!is_preview2_interface(wrong), "{wrong}");
        }
    }
}
