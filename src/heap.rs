//! Memory back to the system when a fleet has gone.
//!
//! Our small blocks lie between the broker's. glibc gives back what is free at the heap's end and
//! keeps the holes, so that one survivor at the end keeps tens of megabytes (mallopt(3),
//! M_TRIM_THRESHOLD). An allocator of our own was the alternative: a second one in the process, for
//! something that happens once in a while.

/// Has the heap give its holes back. Some milliseconds for ten thousand clients that have gone.
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes a number and moves nothing that is in use; it is safe on every
    // thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
