//! What a core dump must not tell: memory is wiped when it is freed, and what has to stay is kept out of dumps.
//!
//! JSON, HTTP and TLS make copies of passwords and tokens on the way, in buffers that are theirs to free. To wipe
//! each of ours by hand was the alternative, and left those. Nothing is allocated where a message is judged, so
//! nothing is wiped there.
//!
//! Beside `broker` the only module with `unsafe`: memory is the system's to give and to dump.

use std::{
    alloc::{GlobalAlloc, Layout, System, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
    slice,
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

/// Bytes in pages of their own, which the kernel leaves out of core dumps (madvise(2), MADV_DONTDUMP).
pub struct Undumped {
    pages: NonNull<u8>,
    layout: Layout,
    length: usize,
}

// SAFETY: it owns its pages, and changes them only while it is made and dropped.
unsafe impl Send for Undumped {}
// SAFETY: the same.
unsafe impl Sync for Undumped {}

impl Undumped {
    /// Copies the bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let page = *PAGE;
        let size = bytes.len().max(1).next_multiple_of(page);
        let layout = Layout::from_size_align(size, page).expect("a size below isize::MAX");
        // SAFETY: the size is not 0.
        let Some(pages) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: whole pages, and all of them ours. Where the kernel cannot do it, they are dumped.
        unsafe { libc::madvise(pages.as_ptr().cast(), size, libc::MADV_DONTDUMP) };
        // SAFETY: there is room for them, in memory that nobody else knows yet.
        unsafe { pages.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self {
            pages,
            layout,
            length: bytes.len(),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many were written, and nobody changes them while this is borrowed.
        unsafe { slice::from_raw_parts(self.pages.as_ptr(), self.length) }
    }
}

impl Drop for Undumped {
    fn drop(&mut self) {
        // SAFETY: these pages. What comes to lie there next may be dumped again.
        unsafe {
            libc::madvise(
                self.pages.as_ptr().cast(),
                self.layout.size(),
                libc::MADV_DODUMP,
            )
        };
        // SAFETY: allocated with this layout, and used for the last time. The allocator wipes them.
        unsafe { dealloc(self.pages.as_ptr(), self.layout) };
    }
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
    use std::sync::{Mutex, MutexGuard, PoisonError};

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
        let undumped = Undumped::new(text.as_bytes());
        assert!(hidden.is_dumped());
        drop(text);
        assert!(!hidden.is_dumped());
        assert!(
            undumped
                .bytes()
                .iter()
                .zip(&hidden.turned)
                .all(|(byte, hidden)| *byte == !hidden)
        );
    }

    #[test]
    fn there_is_room_for_nothing_and_for_more_than_a_page() {
        assert_eq!(Undumped::new(&[]).bytes(), b"");
        let long = vec![7; 3 * *PAGE + 1];
        assert_eq!(Undumped::new(&long).bytes(), long);
    }
}
