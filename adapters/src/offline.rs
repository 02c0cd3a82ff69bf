//! Offline: operations on a store while its proxy is stopped.
//!
//! An installation is [exported](export) into a file of [lines](format) and [imported](import) into another
//! store. States are [sealed again](reseal) with the current key. Each operation holds one page in memory
//! at a time. It can be interrupted at any moment, and continues where it stopped when it is run again.

mod error;
mod progress;
mod writes;
mod pages;
mod reseal;
mod format;
mod grammar;
mod lines;
mod export;
mod unfinished;
mod check;
mod import;
#[cfg(test)]
mod fuzz;

pub use check::{Checked, check};
pub use error::OfflineError;
pub use export::{Export, Exported, export};
pub use import::{Import, Imported, import};
pub use pages::{systems, systems_with_effects};
pub use progress::Progress;
pub use reseal::{Resealed, reseal};
pub use unfinished::{give_up, is_unfinished};
