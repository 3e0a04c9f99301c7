//! Lets the events of some types and services through.
#![no_std]

use weir::{Answer, Config, Event, Filter, Texts};

const TYPE: usize = 0; // slots, in the order of the manifest's fields
const SERVICE: usize = 1;

struct Service {
    types: Texts<'static>,
    services: Texts<'static>,
}

impl Filter for Service {
    fn new(config: Config<'static>) -> Result<Self, &'static str> {
        let defaults = Config::new(br#"{"types":["OrderCreated","OrderAccepted"],"service_info":["delivery"]}"#);
        let list = |name| match config.raw(name) {
            None => defaults.texts(name),
            Some(_) => config.texts(name),
        };
        Ok(Service {
            types: list("types").ok_or("types must be an array of strings")?,
            services: list("service_info").ok_or("service_info must be an array of strings")?,
        })
    }

    fn filter(&mut self, event: &Event) -> Answer {
        let kind = event.text(TYPE).is_some_and(|t| self.types.contain(&t));
        let service = event.text(SERVICE).is_some_and(|s| self.services.contain(&s));
        (kind && service).into()
    }
}

weir::plugin!(Service, "../manifest.json");
