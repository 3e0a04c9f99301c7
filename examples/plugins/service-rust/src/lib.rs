//! Lets the events of some types and services through.
#![no_std]

use weir::{Answer, Config, Event, Filter, List};

const TYPE: usize = 0; // slots, in the order of the manifest's fields
const SERVICE: usize = 1;

struct Service {
    types: List<'static, 32>,
    services: List<'static, 32>,
}

impl Filter for Service {
    fn new(config: Config<'static>) -> Result<Self, &'static str> {
        let defaults = Config::new(br#"{"types":["OrderCreated","OrderAccepted"],"service_info":["delivery"]}"#);
        let list = |name| match config.raw(name) {
            None => defaults.texts(name),
            Some(_) => config.texts(name),
        }
        .and_then(List::take);
        Ok(Service {
            types: list("types").ok_or("types must be an array of at most 32 strings")?,
            services: list("service_info").ok_or("service_info must be an array of at most 32 strings")?,
        })
    }

    fn filter(&mut self, event: &Event) -> Answer {
        let kind = event.text(TYPE).is_some_and(|t| self.types.contains(&t));
        let service = event.text(SERVICE).is_some_and(|s| self.services.contains(&s));
        (kind && service).into()
    }
}

weir::plugin!(Service, "../manifest.json");
