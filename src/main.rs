//! The `breakwater` binary: hands its arguments to the command line and ends with its exit code.

fn main() -> std::process::ExitCode {
    breakwater::cli::run(std::env::args_os().skip(1))
}
