//! Keeps secrets out of core dumps: the allocator wipes memory when it is freed, and the kernel leaves out the
//! blocks that hold secrets for longer.
//!
//! JSON, HTTP and TLS copy passwords and tokens into buffers of their own. Wiping only the plugin's own buffers
//! would miss those copies. Authorizing a message allocates nothing, so it pays nothing for this.
//!
//! Two kinds of blocks are left out of dumps:
//!
//! * Blocks that ask for it with their alignment ([`auth::secret::Pages`]), so that the `auth` crate needs no unsafe
//!   code.
//! * Blocks of a page or more that a thread of the plugin allocates. A connection to the tenant that is kept open
//!   also keeps its buffers, and with them its last request and response: a password, the client secret, a device's
//!   tokens. Each of these buffers has at least a page (ureq's have 16 KiB, rustls's grows in steps of 4 KiB).
//!   Blocks of the broker's thread are not left out: there may be one for each of 100,000 clients, and Linux allows
//!   a process 65,530 areas of memory with differing flags.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::LazyLock,
};

use auth::secret::PAGE_ALIGN;

thread_local! {
    /// Whether this thread's large blocks are left out of core dumps.
    static KEEPS_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Leaves the blocks of a page or more that this thread allocates from now on out of core dumps.
pub fn keep_out_of_dumps() {
    KEEPS_OUT.set(true);
}

/// The system's allocator, with wiping on free, and with whole pages for the blocks that are left out of core dumps.
struct Wiping;

// SAFETY: every block comes from the system's allocator and goes back to it with the layout that it came with. In
// between it is only written to while it is still ours. `realloc` is the default: a new block, a copy, and
// `dealloc` of the old one, because the system's own may leave a copy behind.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(pages) = whole_pages(layout) else {
            // SAFETY: the caller promises that the layout is not empty.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: no smaller than the caller's layout, which is not empty.
        let block = unsafe { System.alloc(pages) };
        let keep_out = layout.align() >= PAGE_ALIGN || KEEPS_OUT.get();
        if keep_out && !block.is_null() {
            // SAFETY: whole pages, and all of them ours. Where the kernel cannot do it, they are dumped.
            unsafe { libc::madvise(block.cast(), pages.size(), libc::MADV_DONTDUMP) };
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if whole_pages(layout).is_none() {
            // SAFETY: the caller promises that the layout is not empty.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller promises that the layout is not empty.
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

/// Returns the layout of the pages that a block gets for itself: one of a page or more, or one that asks for
/// pages by its alignment. It does not depend on the thread, because another one may free the block.
fn whole_pages(layout: Layout) -> Option<Layout> {
    if layout.size().max(layout.align()) < PAGE_ALIGN {
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
        assert_eq!(whole_pages(Layout::new::<[u64; 511]>()), None);
    }

    #[test]
    fn a_large_buffer_of_a_plugin_thread_is_not_dumped() {
        let (hidden, text) = Hidden::new();
        let copy = |text: &str| {
            let mut buffer = vec![0; PAGE_ALIGN];
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            buffer
        };
        let on_this_thread = copy(&text);
        let buffer = std::thread::scope(|scope| {
            let plugin = scope.spawn(|| {
                keep_out_of_dumps();
                copy(&text)
            });
            plugin.join().unwrap()
        });
        drop(text);
        assert!(hidden.is_dumped());
        drop(on_this_thread);
        assert!(!hidden.is_dumped());
        assert!(
            buffer
                .iter()
                .zip(&hidden.turned)
                .all(|(byte, hidden)| *byte == !hidden)
        );
    }
}
