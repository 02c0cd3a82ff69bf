//! Fuzz: files of settings.

use std::collections::BTreeMap;
use std::path::Path;

use super::{effective, effective_json, sources};
use crate::fuzz::run;

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn files_of_settings() {
    let seeds = [
        "PROXY_HTTP_PORT = 9002\nTIDEGATE_DRAIN_DELAY = \"2s\"\nTIDEGATE_REVISIONS = \"every\"\n".into(),
        "TIDEGATE_STORE_BYTES = \"1GiB\"\nPROXY_UDS_ENABLED = true\nPROXY_UDS_MODE = \"0660\"\n".into(),
        "PROXY_DATABASE_TYPE = \"scylla\"\nPROXY_DATABASE_HOST = \"[::1]:9042, a\"\nTIDEGATE_DATABASE_REPLICATION = \"dc1:3,dc2:2\"\n"
            .into(),
        "TIDEGATE_ADMISSION_FULL = \"wait:500ms\"\nTIDEGATE_RATE_LIMIT_PEER = \"100/s\"\n".into(),
        format!("SPAWN_STATESTORE_KEY = \"{SECRET}\"\nTIDEGATE_RETENTION_AGE = \"7d\"\n"),
    ];
    run("config", seeds.map(|seed: String| seed.into_bytes()).into(), |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let Ok(file) = sources::parse(Path::new("settings.toml"), text) else { return };
        match sources::resolve(&[], &BTreeMap::new(), Some(&file), 1 << 30) {
            Ok(config) => {
                if config.settings().is_ok() {
                    let shown = effective(&config) + &effective_json(&config).to_string();
                    assert!(!shown.contains(SECRET), "a secret is shown");
                }
            }
            Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
        }
    });
}
