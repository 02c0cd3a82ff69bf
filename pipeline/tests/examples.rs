//! Runs every example. Each asserts its own result.

use std::fs;
use std::path::Path;

#[path = "../examples/batching.rs"]
mod batching;
#[path = "../examples/broadcast.rs"]
mod broadcast;
#[path = "../examples/keyed.rs"]
mod keyed;
#[path = "../examples/manual_demand.rs"]
mod manual_demand;
#[path = "../examples/partition.rs"]
mod partition;
#[path = "../examples/pause.rs"]
mod pause;
#[path = "../examples/producer.rs"]
mod producer;
#[path = "../examples/producer_consumer.rs"]
mod producer_consumer;
#[path = "../examples/rate_limit.rs"]
mod rate_limit;

type Example = (&'static str, fn() -> anyhow::Result<()>);

const EXAMPLES: [Example; 9] = [
    ("batching", batching::main),
    ("broadcast", broadcast::main),
    ("keyed", keyed::main),
    ("manual_demand", manual_demand::main),
    ("partition", partition::main),
    ("pause", pause::main),
    ("producer", producer::main),
    ("producer_consumer", producer_consumer::main),
    ("rate_limit", rate_limit::main),
];

#[test]
fn every_example_runs() {
    for (name, main) in EXAMPLES {
        main().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_example_is_run_here_and_listed_and_shown_on_the_front_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let front_page = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut files: Vec<String> = fs::read_dir(root.join("examples"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(files, EXAMPLES.map(|(name, _)| name));
    for name in files {
        let shown = format!("include_str!(\"../examples/{name}.rs\")");
        assert!(front_page.contains(&shown), "{name} is not shown in src/lib.rs");
        assert!(readme.contains(&format!("`{name}`")), "{name} is not listed in README.md");
    }
}
