//! hello: a plain WASI program that does not know Atoll. Atoll runs it as a process all the same.

fn main() {
    println!("hello, world");
}
