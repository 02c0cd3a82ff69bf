//! Why `tls bootstrap` made nothing more.

use std::io;

/// Nothing more was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// A file or the directory cannot be made or read.
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    /// What is there cannot be used, and is left as it is.
    #[error("{0}")]
    Unusable(String),
    /// A name is no DNS name and no IP address.
    #[error("--name {0:?} is no DNS name and no IP address")]
    Name(String),
    /// A key or certificate cannot be made.
    #[error(transparent)]
    Making(#[from] rcgen::Error),
}
