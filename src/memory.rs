//! What a core dump must not tell: memory is wiped when it is freed, and secrets that stay are kept out of dumps.
//!
//! JSON, HTTP and TLS make copies of passwords and tokens on the way, in buffers that are theirs to free. To wipe
//! each of ours by hand was the alternative, and left those. Nothing is allocated where a message is judged, so
//! nothing is wiped there.
//!
//! Who wants a value kept out of dumps gives it [whole pages](auth::secret::Pages): the allocator sees that by the
//! alignment, so the crate of the secrets needs no unsafe code.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::LazyLock,
};

use auth::secret::PAGE_ALIGN;

/// The system's allocator, which wipes what it is given back, and keeps whole pages out of core dumps.
struct Wiping;

// SAFETY: every block comes from the system's allocator and goes back to it with the layout that it came with. In
// between it is only written to while it is still ours. `realloc` is the default: a new block, a copy, and
// `dealloc` of the old one, because the system's own may leave a copy behind.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(pages) = whole_pages(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: no smaller than the caller's layout, which is not empty.
        let block = unsafe { System.alloc(pages) };
        if !block.is_null() {
            // SAFETY: whole pages, and all of them ours. Where the kernel cannot do it, they are dumped.
            unsafe { libc::madvise(block.cast(), pages.size(), libc::MADV_DONTDUMP) };
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if whole_pages(layout).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size, and nobody uses it any more. (A plain write before a `free` would be
        // optimised away.)
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        let mut came_with = layout;
        if let Some(pages) = whole_pages(layout) {
            came_with = pages;
            // SAFETY: these pages. What comes to lie there next may be dumped again.
            unsafe { libc::madvise(block.cast(), pages.size(), libc::MADV_DODUMP) };
        }
        // SAFETY: the layout that it came with.
        unsafe { System.dealloc(block, came_with) };
    }
}

/// Returns the layout of the pages that a block gets for itself, if it is one that wants pages.
fn whole_pages(layout: Layout) -> Option<Layout> {
    if layout.align() < PAGE_ALIGN {
        return None;
    }
    let size = layout.size().checked_next_multiple_of(*PAGE)?;
    Layout::from_size_align(size, layout.align().max(*PAGE)).ok()
}

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

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
    use auth::secret::Secret;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use testbed::{dump::Dump, signing::random_text};

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
    fn a_secret_is_not_dumped() {
        let (hidden, text) = Hidden::new();
        let secret = Secret::new(text.as_bytes());
        assert!(hidden.is_dumped());
        drop(text);
        assert!(!hidden.is_dumped());
        let is_it = |(byte, hidden): (&u8, &u8)| *byte == !hidden;
        assert!(secret.reveal().iter().zip(&hidden.turned).all(is_it));
    }

    #[test]
    fn pages_are_whole_however_large_the_system_s_are() {
        for (size, align) in [(1, 4096), (5000, 4096), (70_000, 1 << 20)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            let pages = whole_pages(layout).unwrap();
            assert!(pages.size() >= size && pages.size().is_multiple_of(*PAGE));
            assert!(pages.align() >= align && pages.align() >= *PAGE);
        }
        assert_eq!(whole_pages(Layout::new::<[u64; 4096]>()), None);
    }
}
