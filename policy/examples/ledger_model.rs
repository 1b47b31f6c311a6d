//! Runs the model of the quota ledger for many seeds: `ledger_model FIRST_SEED RUNS STEPS`. Prints one line of JSON, and each run
//! that broke a promise. Started by `cargo xtask prove ledger`.

use std::process::ExitCode;

use policy::model;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [first, runs, steps] = numbers.as_slice() else {
        eprintln!("usage: ledger_model FIRST_SEED RUNS STEPS");
        return ExitCode::FAILURE;
    };
    let (mut admitted, mut operations, mut faults, mut broken) = (0, 0, 0, 0_u64);
    for seed in *first..first.saturating_add(*runs) {
        let report = model::run(seed, usize::try_from(*steps).unwrap_or(usize::MAX));
        admitted += report.admitted;
        operations += report.operations;
        faults += report.faults;
        if let Some(violation) = report.violation {
            broken += 1;
            eprintln!("seed {seed}: {violation}");
        }
    }
    println!(
        r#"{{"runs":{runs},"steps":{steps},"admitted":{admitted},"operations":{operations},"faults":{faults},"broken":{broken}}}"#
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
