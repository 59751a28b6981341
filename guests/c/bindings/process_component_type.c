// Stands in for `process_component_type.o`, which `wit-bindgen c --no-object-file` does not write although the
// `process.c` that it writes calls for it. The object file's only content of use is the world's description for those
// who wrap the module into a component; weak, so that they may link it beside this file.

__attribute__((weak)) void __component_type_object_force_link_process(void) {}
