//! Says whether the embedded store syncs.

/// `1` leaves out the sync calls of the embedded store. Only the counter-proof of the sync test wants that, so it is no
/// Cargo feature, which `--all-features` would switch on.
const UNSYNCED: &str = "TIDEGATE_UNSYNCED_BUILD";

fn main() -> Result<(), String> {
    println!("cargo::rustc-check-cfg=cfg(tidegate_unsynced)");
    println!("cargo::rerun-if-env-changed={UNSYNCED}");
    match std::env::var_os(UNSYNCED) {
        None => {}
        Some(value) if value.is_empty() || value == "0" => {}
        Some(value) if value == "1" => {
            println!("cargo::rustc-cfg=tidegate_unsynced");
            println!("cargo::warning={UNSYNCED}=1: this build loses data, it is for tests only");
        }
        Some(value) => return Err(format!("{UNSYNCED} is {}, not 0 or 1", value.display())),
    }
    Ok(())
}
