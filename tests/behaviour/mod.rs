//! What dts promises, by the processes that a user would start.

mod agent;
mod bad_input;
