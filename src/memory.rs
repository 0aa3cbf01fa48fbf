//! What a core dump must not tell: memory is wiped when it is freed, and what has to stay is kept out of dumps.
//!
//! JSON, HTTP and TLS make copies of passwords and tokens on the way, in buffers that are theirs to free. To wipe
//! each of ours by hand was the alternative, and left those. Nothing is allocated where a message is judged, so
//! nothing is wiped there.
//!
//! Beside `broker` the only module with `unsafe`: memory is the system's to give and to dump.

use std::{
    alloc::{GlobalAlloc, Layout, System, alloc, dealloc, handle_alloc_error},
    ops::Deref,
    ptr::NonNull,
    sync::LazyLock,
};

/// The system's allocator, which wipes what it is given back.
struct Wiping;

// SAFETY: every block comes from the system's allocator and goes back to it with the layout that it came with. In
// between it is only written to while it is still ours. `realloc` is the default: a new block, a copy, and
// `dealloc` of the old one, because the system's own may leave a copy behind.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size, and nobody uses it any more. (A plain write before a `free` would be
        // optimised away.)
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// A value in pages of its own, which the kernel leaves out of core dumps (madvise(2), MADV_DONTDUMP).
///
/// Only the value's own bytes lie there. What it points to does not.
pub struct Undumped<T: ?Sized> {
    value: NonNull<T>,
    layout: Layout,
}

// SAFETY: it owns its pages, as a box does.
unsafe impl<T: ?Sized + Send> Send for Undumped<T> {}
// SAFETY: it shares nothing but its value.
unsafe impl<T: ?Sized + Sync> Sync for Undumped<T> {}

impl<T> Undumped<T> {
    /// Moves a value to pages of its own.
    pub fn new(value: T) -> Self {
        let (page, layout) = pages(Layout::new::<T>());
        let place = page.cast::<T>();
        // SAFETY: whole pages have room for it and are aligned for it, and nobody else knows them yet.
        unsafe { place.write(value) };
        Self {
            value: place,
            layout,
        }
    }
}

impl Undumped<[u8]> {
    /// Copies bytes to pages of their own.
    pub fn copy(bytes: &[u8]) -> Self {
        let (page, layout) = pages(Layout::for_value(bytes));
        // SAFETY: there is room for them, in memory that nobody else knows yet.
        unsafe { page.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self {
            value: NonNull::slice_from_raw_parts(page, bytes.len()),
            layout,
        }
    }
}

impl<T: ?Sized> Deref for Undumped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it was written when this was made, and only `drop` changes it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Drop for Undumped<T> {
    fn drop(&mut self) {
        let page = self.value.cast::<u8>();
        // SAFETY: it is ours, and this is its last use.
        unsafe { self.value.drop_in_place() };
        // SAFETY: these pages. What comes to lie there next may be dumped again.
        unsafe { libc::madvise(page.as_ptr().cast(), self.layout.size(), libc::MADV_DODUMP) };
        // SAFETY: allocated with this layout, and used for the last time. The allocator wipes them.
        unsafe { dealloc(page.as_ptr(), self.layout) };
    }
}

/// Allocates whole pages for a value of this layout, and keeps them out of core dumps.
fn pages(value: Layout) -> (NonNull<u8>, Layout) {
    let size = value.size().max(1).next_multiple_of(*PAGE);
    let align = value.align().max(*PAGE);
    let layout = Layout::from_size_align(size, align).expect("a size below isize::MAX");
    // SAFETY: the size is not 0.
    let Some(page) = NonNull::new(unsafe { alloc(layout) }) else {
        handle_alloc_error(layout)
    };
    // SAFETY: whole pages, and all of them ours. Where the kernel cannot do it, they are dumped.
    unsafe { libc::madvise(page.as_ptr().cast(), size, libc::MADV_DONTDUMP) };
    (page, layout)
}

/// The size of a page in memory.
static PAGE: LazyLock<usize> = LazyLock::new(|| {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size)
        .ok()
        .filter(|size| size.is_power_of_two())
        .unwrap_or(4096)
});

#[cfg(test)]
mod tests {
    use super::*;
    use lab::{dump::Dump, signing::random_text};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// One dump at a time: each has a copy of what the other looks for.
    static ALONE: Mutex<()> = Mutex::new(());

    /// What is looked for, in a form that is not found itself.
    struct Hidden {
        turned: Vec<u8>,
        _alone: MutexGuard<'static, ()>,
    }

    impl Hidden {
        fn new() -> (Self, String) {
            let text = random_text();
            (Self::of(text.as_bytes()), text)
        }

        fn of(bytes: &[u8]) -> Self {
            Self {
                _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
                turned: bytes.iter().map(|byte| !byte).collect(),
            }
        }

        fn is_dumped(&self) -> bool {
            let dump = Dump::of(std::process::id()).unwrap();
            // Its own copy for the search was made after the dump.
            let bytes: Vec<u8> = self.turned.iter().map(|byte| !byte).collect();
            dump.holds(bytes)
        }
    }

    #[test]
    fn what_is_freed_is_wiped() {
        let (hidden, text) = Hidden::new();
        let mut grows = text.clone().into_bytes();
        assert!(hidden.is_dumped());
        drop(text);
        assert!(hidden.is_dumped());
        // It moves, and so does a large block, which the system would move by itself.
        grows.reserve_exact(1 << 20);
        grows.reserve_exact(1 << 22);
        let small = grows[..30].to_vec();
        drop(grows);
        assert!(hidden.is_dumped());
        drop(small);
        assert!(!hidden.is_dumped());
    }

    #[test]
    fn what_must_stay_is_not_dumped() {
        let (hidden, text) = Hidden::new();
        let undumped = Undumped::copy(text.as_bytes());
        assert!(hidden.is_dumped());
        drop(text);
        assert!(!hidden.is_dumped());
        assert!(
            undumped
                .iter()
                .zip(&hidden.turned)
                .all(|(byte, hidden)| *byte == !hidden)
        );
    }

    #[test]
    fn a_value_is_dropped_once() {
        let counted = Arc::new(());
        let undumped = Undumped::new(Arc::clone(&counted));
        assert_eq!(Arc::strong_count(&undumped), 2);
        drop(undumped);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn there_is_room_for_nothing_and_for_more_than_a_page() {
        assert!(Undumped::copy(&[]).is_empty());
        let long = vec![7; 3 * *PAGE + 1];
        assert_eq!(*Undumped::copy(&long), long);
        assert_eq!(*Undumped::new(()), ());
    }
}
