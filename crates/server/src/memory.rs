//! How the process asks the system for memory, set once before anything runs.
//!
//! A page that is touched for the first time costs a fault: half a microsecond on bare metal, eight
//! in a virtual machine whose host has to find it first. Checkpoints use and free the same amount
//! again and again, so freed memory is kept for a while (the allocator would give it back after
//! 10 ms), and huge pages, whose first touch stops a worker for milliseconds and which round what
//! is in use up to 2 MiB, stay off. docs/decisions/2026-11-21-memory.md has the measurements.
#![expect(unsafe_code, reason = "the allocator's options have no safe interface")]

use std::ffi::c_long;

/// How long freed memory is kept; the allocator multiplies it by ten for whole arenas.
const KEEP_FREED_MS: c_long = 3_000;
/// `mi_option_purge_delay`, which the bindings do not name: its place in mimalloc's `mi_option_e`.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Applies this, except for what the environment sets for the allocator itself.
pub(crate) fn prepare() {
    let says = |name: &str| std::env::var_os(name).is_some();
    if !says("MIMALLOC_PURGE_DELAY") {
        // SAFETY: it stores an integer in a table of the allocator that is initialised before `main`,
        // and no other thread exists yet that could read it; an unknown option is ignored.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEEP_FREED_MS) };
    }
    #[cfg(target_os = "linux")]
    if !says("MIMALLOC_ALLOW_THP") {
        // An old kernel that cannot is as well without.
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
}
