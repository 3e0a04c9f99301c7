//! The exports and imports of ABI v1, for wasm32. One thread, no allocator:
//! buffers begin as zeroed memory and grow by pages.

use core::cell::UnsafeCell;

use crate::{Batch, Config, Event, Filter, Level};

/// The minor version of ABI 1 that this crate speaks.
pub const MINOR: i32 = 0;

const PAGE: usize = 64 << 10;
const FIRST: usize = 64 << 10;

#[link(wasm_import_module = "weir1")]
extern "C" {
    fn log(event: i32, level: i32, ptr: *const u8, len: usize);
    fn fail(event: i32, class: i32, ptr: *const u8, len: usize);
    fn reason(event: i32, ptr: *const u8, len: usize);
    fn field(event: i32, path: *const u8, path_len: usize, out: *mut u8, cap: usize) -> i32;
    fn now(event: i32) -> i64;
}

/// Writes a line to the engine's log.
pub fn log_line(level: Level, text: &str) {
    unsafe { log(-1, level as i32, text.as_ptr(), text.len()) }
}

impl Event<'_> {
    /// Says why the event got its answer; `weir explain` shows it.
    pub fn reason(&self, text: &str) {
        unsafe { reason(self.index() as i32, text.as_ptr(), text.len()) }
    }

    /// Says why the plug-in fails on the event; answer `Answer::FAILED` then.
    pub fn fail(&self, text: &str) {
        unsafe { fail(self.index() as i32, 0, text.as_ptr(), text.len()) }
    }

    /// The event's time in nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        unsafe { now(self.index() as i32) }
    }

    /// Reads the JSON text of a field that the manifest does not name. `None`
    /// if the event does not have it, `Some(Err(n))` if it needs n bytes.
    pub fn field<'b>(&self, path: &str, out: &'b mut [u8]) -> Option<Result<&'b [u8], usize>> {
        let n = unsafe { field(self.index() as i32, path.as_ptr(), path.len(), out.as_mut_ptr(), out.len()) };
        match n {
            n if n < 0 => None,
            n if n as usize > out.len() => Some(Err(n as usize)),
            n => Some(Ok(&out[..n as usize])),
        }
    }
}

struct Cell<T>(UnsafeCell<T>);

// A guest has one thread, and the host never enters it twice.
unsafe impl<T> Sync for Cell<T> {}

#[repr(align(8))]
struct Room([u8; FIRST]);

#[derive(Clone, Copy)]
struct Buffer {
    at: *mut u8, // null = still the first room
    len: usize,
}

static ROOMS: Cell<[Room; 2]> = Cell(UnsafeCell::new([Room([0; FIRST]), Room([0; FIRST])]));
static BUFFERS: Cell<[Buffer; 2]> = Cell(UnsafeCell::new([Buffer { at: core::ptr::null_mut(), len: FIRST }; 2]));

/// weir_buf: the in (0) or out (1) buffer, of at least `min` bytes.
pub fn buffer(kind: i32, min: i32) -> *mut u8 {
    let (kind, min) = (kind as usize & 1, min as u32 as usize);
    let b = unsafe { &mut (*BUFFERS.0.get())[kind] };
    if b.at.is_null() {
        b.at = unsafe { (*ROOMS.0.get())[kind].0.as_mut_ptr() };
    }
    if min > b.len {
        // The old buffer stays behind, so grow by half to keep that bounded.
        let len = min.max(b.len + b.len / 2);
        match pages(len).or_else(|| pages(min)) {
            Some((at, len)) => *b = Buffer { at, len },
            None => return core::ptr::null_mut(),
        }
    }
    b.at
}

fn pages(len: usize) -> Option<(*mut u8, usize)> {
    let n = len.div_ceil(PAGE);
    let first = core::arch::wasm32::memory_grow(0, n);
    (first != usize::MAX).then(|| ((first * PAGE) as *mut u8, n * PAGE))
}

fn input(len: i32) -> &'static [u8] {
    unsafe { core::slice::from_raw_parts(buffer(0, 0), len as u32 as usize) }
}

/// The one plug-in of a module.
pub struct Plugin<F>(Cell<Option<F>>);

impl<F: Filter> Plugin<F> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Plugin<F> {
        Plugin(Cell(UnsafeCell::new(None)))
    }

    pub fn init(&self, len: i32) -> i32 {
        // The configuration outlives the in buffer: it moves to pages of its own.
        let json = input(len);
        let Some((at, _)) = pages(json.len().max(1)) else {
            return refuse("no memory for the configuration");
        };
        let kept = unsafe {
            core::ptr::copy_nonoverlapping(json.as_ptr(), at, json.len());
            core::slice::from_raw_parts(at, json.len())
        };
        match F::new(Config::new(kept)) {
            Ok(f) => unsafe {
                *self.0 .0.get() = Some(f);
                0
            },
            Err(text) => refuse(text),
        }
    }

    pub fn filter(&self, len: i32) -> i32 {
        let Some(f) = (unsafe { &mut *self.0 .0.get() }) else {
            return refuse("weir_init has not run");
        };
        let Some(batch) = Batch::read(input(len)) else {
            return refuse("the in buffer holds no batch");
        };
        let out = buffer(1, (batch.len() * 4) as i32) as *mut u32;
        for i in 0..batch.len() {
            let answer = f.filter(&batch.event(i));
            unsafe { out.add(i).write(answer.0) };
        }
        0
    }
}

fn refuse(text: &str) -> i32 {
    unsafe { fail(-1, 0, text.as_ptr(), text.len()) };
    1
}
