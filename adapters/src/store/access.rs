//! Access: what a store is opened to do.

/// What a store is opened to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read what is there. Nothing is made, noted, claimed or cleared up; every write is refused.
    Read,
    /// To read and write what is there. No store is made where none is.
    Write,
    /// As `Write`, but a store is made where none is.
    Create,
}
