//! Prints the files of `crds/yaml` as one JSON object, name to text; `cargo xtask codegen` writes them.

use std::collections::BTreeMap;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files: BTreeMap<String, String> = crds::yaml()?.into_iter().collect();
    println!("{}", serde_json::to_string(&files)?);
    Ok(())
}
