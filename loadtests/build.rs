//! Compiles the messages of the public protocol; load tests know nothing else of the proxy.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("Cargo runs this")?;
    let root = std::path::Path::new(&directory).join("../proto");
    let files = [
        "eigr/functions/protocol/actors/actor.proto",
        "eigr/functions/protocol/actors/protocol.proto",
    ];
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(files.map(|file| root.join(file)), [&root])?;
    prost_build::Config::new()
        .compile_well_known_types()
        .bytes(["."])
        .btree_map(["."])
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
