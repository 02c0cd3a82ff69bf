//! Compiles the protocol's and the store's protobuf messages, and says whether the embedded store syncs.

/// `1` leaves out the sync calls of the embedded store. Only the counter-proof of the sync test wants that, so it is no
/// Cargo feature, which `--all-features` would switch on.
const UNSYNCED: &str = "TIDEGATE_UNSYNCED_BUILD";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-check-cfg=cfg(tidegate_unsynced)");
    println!("cargo::rerun-if-env-changed={UNSYNCED}");
    match std::env::var_os(UNSYNCED) {
        None => {}
        Some(value) if value.is_empty() || value == "0" => {}
        Some(value) if value == "1" => {
            println!("cargo::rustc-cfg=tidegate_unsynced");
            println!("cargo::warning={UNSYNCED}=1: this build loses data, it is for tests only");
        }
        Some(value) => return Err(format!("{UNSYNCED} is {}, not 0 or 1", value.display()).into()),
    }
    // Asked when it runs: a built script may be run for another checkout that shares its target directory.
    let directory = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("Cargo runs this")?;
    let root = std::path::Path::new(&directory).join("../proto");
    let files = [
        "eigr/functions/protocol/actors/actor.proto",
        "eigr/functions/protocol/actors/protocol.proto",
        "eigr/functions/protocol/actors/state.proto",
        "tidegate/api/v1/channels.proto",
        "tidegate/api/v1/history.proto",
        "tidegate/api/v1/schedules.proto",
        "tidegate/store/v1/store.proto",
    ];
    let descriptors = protox::compile(files.map(|file| root.join(file)), [&root])?;
    println!("cargo:rerun-if-changed={}", root.display());
    prost_build::Config::new()
        .compile_well_known_types()
        .bytes(["."])
        .btree_map(["."])
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
