//! The `dts` command.

fn main() -> std::process::ExitCode {
    dts::cli::main(std::env::args_os().skip(1))
}
