//! The program under test. It is a target of this package so that cargo builds it, from the same sources, before the
//! tests run: a test never meets a stale binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    waybill::main()
}
