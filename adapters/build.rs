//! Compiles the protocol's and the store's protobuf messages.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let files = [
        "eigr/functions/protocol/actors/actor.proto",
        "eigr/functions/protocol/actors/protocol.proto",
        "eigr/functions/protocol/actors/state.proto",
        "tidegate/api/v1/history.proto",
        "tidegate/store/v1/store.proto",
    ];
    let files = files.map(|file| root.join(file)).into_iter().filter(|file| file.exists());
    let descriptors = protox::compile(files, [&root])?;
    println!("cargo:rerun-if-changed={}", root.display());
    prost_build::Config::new()
        .compile_well_known_types()
        .bytes(["."])
        .btree_map(["."])
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
