//! hello: a plain WASI program, compiled as anybody would. It knows nothing of Atoll, and runs as a process all the same.

fn main() {
    println!("hello, world");
}
