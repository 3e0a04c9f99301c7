//! Weir plug-ins in Rust: a filter is a type that implements [`Filter`], and
//! one [`plugin!`] line that exports it. No `std`, no allocator, no dependency.
//! `../ABI.md` is the contract that this crate speaks.
#![cfg_attr(not(test), no_std)]

mod batch;
mod config;
mod text;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;

pub use batch::{Batch, Event, Value};
pub use config::{Config, List, Texts};
pub use text::Text;

/// A filter: made once an instance from its configuration, then asked for each
/// event, in order of arrival per key.
pub trait Filter: Sized {
    /// Reads the configuration. An error refuses it; operators read the text.
    fn new(config: Config<'static>) -> Result<Self, &'static str>;

    /// Answers for one event. Slots stand in the order of the manifest's fields.
    fn filter(&mut self, event: &Event) -> Answer;
}

/// What a filter answers: no, yes, a set of its named outputs, or that it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer(pub u32);

impl Answer {
    pub const NO: Answer = Answer(0);
    pub const YES: Answer = Answer(1);
    /// The plug-in could not decide: the event meets `on_error`.
    pub const FAILED: Answer = Answer(1 << 31);

    /// The n-th of the manifest's outputs, from 0 to 30.
    pub const fn output(n: u32) -> Answer {
        Answer(1 << (n % 31))
    }

    /// Both outputs.
    pub const fn and(self, other: Answer) -> Answer {
        Answer(self.0 | other.0)
    }
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Answer {
        Answer(yes as u32)
    }
}

/// How loud a log line is.
#[derive(Clone, Copy)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warn = 2,
    Error = 3,
}

/// Exports a [`Filter`] as a plug-in, with its manifest:
/// `weir::plugin!(Vip, "../manifest.json");`
#[macro_export]
macro_rules! plugin {
    ($filter:ty, $manifest:literal) => {
        #[cfg(target_arch = "wasm32")]
        mod weir_exports {
            use super::*;

            #[link_section = "weir.manifest"]
            #[used]
            static MANIFEST: [u8; include_bytes!($manifest).len()] = *include_bytes!($manifest);

            static PLUGIN: $crate::guest::Plugin<$filter> = $crate::guest::Plugin::new();

            #[no_mangle]
            extern "C" fn weir_abi_1() -> i32 {
                $crate::guest::MINOR
            }
            #[no_mangle]
            extern "C" fn weir_buf(kind: i32, min: i32) -> *mut u8 {
                $crate::guest::buffer(kind, min)
            }
            #[no_mangle]
            extern "C" fn weir_init(len: i32) -> i32 {
                PLUGIN.init(len)
            }
            #[no_mangle]
            extern "C" fn weir_filter(len: i32) -> i32 {
                PLUGIN.filter(len)
            }
            #[panic_handler]
            fn panic(_: &core::panic::PanicInfo) -> ! {
                core::arch::wasm32::unreachable()
            }
        }
    };
}

#[cfg(target_arch = "wasm32")]
pub use guest::log_line as log;
