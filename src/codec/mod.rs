//! Bytes <-> events: the forms in which sinks write a change.

pub mod base64;
pub mod json;
pub mod text;

#[cfg(test)]
mod tests;
