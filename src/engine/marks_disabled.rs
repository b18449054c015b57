//! Watermarks, where no source needs them.

use std::rc::Rc;

use super::EngineError;
use crate::config::Plan;
use crate::pipeline::NamedSink;
use crate::pipeline::run::KeepMarks;
use crate::sink::Mark;

pub(super) async fn load(
    _plan: &Plan,
    _sinks: &mut [NamedSink],
) -> Result<(Option<Rc<dyn KeepMarks>>, Vec<Mark>), EngineError> {
    Ok((None, Vec::new()))
}
