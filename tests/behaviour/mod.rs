//! What dts promises, by the processes that a user would start.

mod agent;
mod auth;
mod bad_input;
mod copies;
mod dictionary;
mod link;
mod nodes;
