//! The binary; all code is in the library.

use std::process::ExitCode;

// Decision 036.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
