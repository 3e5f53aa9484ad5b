//! placeholder
pub mod outcome;
pub mod protocol;
pub mod attributes;
pub mod console;
pub mod markdown;
