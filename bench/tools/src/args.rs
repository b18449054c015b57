//! `--name value` pairs.

use std::collections::HashMap;
use std::str::FromStr;

use crate::net::Result;

pub struct Args(HashMap<String, String>);

impl Args {
    pub fn parse(mut argv: impl Iterator<Item = String>) -> Self {
        let mut pairs = HashMap::new();
        while let Some(name) = argv.next() {
            pairs.insert(name.trim_start_matches("--").to_owned(), argv.next().unwrap_or_default());
        }
        Self(pairs)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn text(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| format!("--{name} is missing").into())
    }

    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: not understood").into()),
        }
    }
}
