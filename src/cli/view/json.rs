//! The events unchanged, one object per line. Errors also go to standard error.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::text::{self, Page};
use super::{Form, Streams};
use crate::engine::report::{Event, EventKind, Summary};

/// Progress is printed at most this often: a fetch reports every per cent.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

pub struct Json {
    streams: Streams,
    page: Page,
    progress_told: HashMap<String, Duration>,
}

impl Json {
    pub fn new(streams: Streams, page: Page) -> Self {
        Self {
            streams,
            page,
            progress_told: HashMap::new(),
        }
    }

    fn line(&mut self, object: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(object) {
            self.streams.out(&(line + "\n"));
        }
    }

    fn is_too_soon(&mut self, event: &Event, now: Duration) -> bool {
        let resource = event.resource.to_string();
        if let Some(told) = self.progress_told.get(&resource)
            && now < *told + PROGRESS_PAUSE
        {
            return true;
        }
        self.progress_told.insert(resource, now);
        false
    }
}

impl Form for Json {
    fn event(&mut self, event: &Event, now: Duration) {
        if event.kind == EventKind::Progress && self.is_too_soon(event, now) {
            return;
        }
        self.line(event);
        if let (EventKind::Failed, Some(error)) = (event.kind, &event.error) {
            let error = text::error(self.page, &event.resource.to_string(), error);
            self.streams.err(&error);
        }
    }

    fn tick(&mut self, _now: Duration) {}

    fn stopping(&mut self, _now: Duration) {}

    fn summary(&mut self, summary: &Summary, interrupted: bool) {
        self.line(summary);
        if interrupted {
            self.streams.err(&text::interrupted(self.page));
        }
    }
}
