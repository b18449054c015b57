//! The buffer, where it is not compiled in: a config that asks for it is refused by name.

use std::rc::Rc;

use super::{EngineError, Seen};
use crate::config::Plan;
use crate::runtime::Stop;

pub(super) async fn run(_plan: Rc<Plan>, _seen: Seen, _stop: Stop) -> Result<(), EngineError> {
    Err(EngineError::Other("a buffer is not compiled in: rebuild with `--features spool`".to_owned()))
}
