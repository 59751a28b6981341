//! echo: prints the arguments of the command line, one on each line.

use atoll_guest::{args, println};

atoll_guest::entry!(main);

fn main() {
    for argument in args() {
        println!("{argument}");
    }
}
