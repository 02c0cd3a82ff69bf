//! Proto: the messages of the protocol and of the store, generated from `proto/` and kept here.
//!
//! The compiler of protobuf and what it needs would be a tenth of the crates of a build. A test compares these files with what
//! it generates; `TIDEGATE_WRITE_PROTO=1 cargo test -p tidegate --lib proto` writes them anew after a change of `proto/`.

pub mod eigr {
    pub mod functions {
        pub mod protocol {
            include!("proto/eigr.functions.protocol.rs");
            pub mod actors {
                include!("proto/eigr.functions.protocol.actors.rs");
            }
            pub mod state {
                include!("proto/eigr.functions.protocol.state.rs");
            }
        }
    }
}
pub mod google {
    pub mod protobuf {
        include!("proto/google.protobuf.rs");
    }
}
pub mod tidegate {
    pub mod api {
        pub mod v1 {
            include!("proto/tidegate.api.v1.rs");
        }
    }
    pub mod nats {
        pub mod v1 {
            include!("proto/tidegate.nats.v1.rs");
        }
    }
    pub mod store {
        pub mod v1 {
            include!("proto/tidegate.store.v1.rs");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    fn files_in(directory: &Path) -> BTreeMap<String, String> {
        let files = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
        let read = |file: std::fs::DirEntry| {
            (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap())
        };
        files.map(read).collect()
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the variable is no setting of the proxy")]
    fn the_messages_are_those_of_the_proto_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto");
        let files = [
            "eigr/functions/protocol/actors/actor.proto",
            "eigr/functions/protocol/actors/protocol.proto",
            "eigr/functions/protocol/actors/state.proto",
            "tidegate/api/v1/channels.proto",
            "tidegate/api/v1/history.proto",
            "tidegate/api/v1/schedules.proto",
            "tidegate/nats/v1/broadcast.proto",
            "tidegate/store/v1/store.proto",
        ];
        let descriptors = protox::compile(files.map(|file| root.join(file)), [&root]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        prost_build::Config::new()
            .compile_well_known_types()
            .bytes(["."])
            .btree_map(["."])
            .out_dir(directory.path())
            .compile_fds(descriptors)
            .unwrap();
        let generated = files_in(directory.path());
        assert!(generated.len() >= 6, "{:?}", generated.keys());
        if std::env::var("TIDEGATE_WRITE_PROTO").is_ok_and(|write| write == "1") {
            for (name, text) in &generated {
                std::fs::write(here.join(name), text).unwrap();
            }
        }
        let kept = files_in(&here);
        assert!(kept.keys().eq(generated.keys()), "{:?}", kept.keys());
        for (name, text) in &generated {
            let text_kept = kept.get(name).unwrap();
            assert!(text_kept == text, "{name} differs: TIDEGATE_WRITE_PROTO=1 writes it anew");
        }
    }
}
