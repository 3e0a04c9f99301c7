//! Lets orders of at least `min_total` through.
#![no_std]

use weir::{Answer, Config, Event, Filter, Text};

const TYPE: usize = 0; // slots, in the order of the manifest's fields
const TOTAL: usize = 1;

struct Vip {
    min_total: f64,
    type_prefix: Text<'static>,
}

impl Filter for Vip {
    fn new(config: Config<'static>) -> Result<Self, &'static str> {
        let min_total = match config.raw("min_total") {
            None => 100.0,
            Some(_) => config.number("min_total").ok_or("min_total must be a number")?,
        };
        let type_prefix = match config.raw("type_prefix") {
            None => Text::new(b"Order", false),
            Some(_) => config.text("type_prefix").ok_or("type_prefix must be a string")?,
        };
        Ok(Vip { min_total, type_prefix })
    }

    fn filter(&mut self, event: &Event) -> Answer {
        let order = event.text(TYPE).is_some_and(|t| t.starts_with_text(&self.type_prefix));
        let large = event.number(TOTAL).is_some_and(|n| n >= self.min_total);
        (order && large).into()
    }
}

weir::plugin!(Vip, "../manifest.json");
