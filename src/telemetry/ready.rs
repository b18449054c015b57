//! What is not ready, part by part.

use std::cell::RefCell;
use std::rc::Rc;

/// Shared between the engine, which knows, and whoever is asked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Rc<RefCell<Vec<(String, String)>>>);

impl Readiness {
    /// Notes why `part` is not ready (`None`: it is).
    pub fn set(&self, part: &str, why_not: Option<&str>) {
        let mut parts = self.0.borrow_mut();
        parts.retain(|(p, _)| p != part);
        if let Some(why) = why_not {
            parts.push((part.to_owned(), why.to_owned()));
        }
    }

    /// `part: why not`, for each part that is not ready.
    pub fn missing(&self) -> Vec<String> {
        self.0.borrow().iter().map(|(part, why)| format!("{part}: {why}")).collect()
    }
}
