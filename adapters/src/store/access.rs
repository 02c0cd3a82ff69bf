//! Access: what a store is opened to do.

/// What a store is opened to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads an existing store. Writes, claims and cleans up nothing; refuses every write.
    Read,
    /// Reads and writes an existing store; never creates one.
    Write,
    /// As `Write`, but creates a missing store.
    Create,
}
