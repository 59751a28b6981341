// Says hello. It is an ordinary WASI command, as any C toolchain makes it. It does not know Atoll, and Atoll runs it as a
// process like any other.
//
//     clang-19 --target=wasm32-wasi -Os main.c -o hello-c.wasm
//     atoll run hello-c.wasm

#include <stdio.h>

int main(void) {
    printf("hello from C\n");
    return 0;
}
