//! The cache hint, and the only `unsafe` of this crate.
//!
//! A hint reads nothing and cannot fault; the address comes from a bounds-checked reference, so
//! it is valid as well. Under Miri and on other processors it is nothing.

/// Asks the processor to bring `slice[at]`'s cache line near; nothing if it is out of bounds.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], at: usize) {
    if let Some(element) = slice.get(at) {
        hint(element);
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn hint<T>(element: &T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    #[expect(unsafe_code, reason = "a prefetch of a live reference: it cannot fault and changes no value")]
    // SAFETY: SSE is part of every x86-64; the pointer comes from a reference.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(element).cast());
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
fn hint<T>(_element: &T) {}
