//! An allocator that overwrites memory before it is freed: what a library has copied, such as the buffer of a response, is
//! gone with the copy.

mod pool;

use std::alloc::{GlobalAlloc, Layout};

pub use pool::Pooled;

/// Overwrites what the inner allocator frees.
pub struct Zeroing<A>(pub A);

// SAFETY: each block comes from the inner allocator and goes back to it with the layout that it was requested with.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Zeroing<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    // Called from thousands of places, into each of which it would be copied.
    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has the size of its layout, and nobody else uses it any more. A compiler may remove any other
        // write to memory that is freed after it.
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // That of the inner allocator may move the block, and leaves the old one as it is.
        // SAFETY: the caller promises that the size fits the alignment.
        let moved_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that the size is not zero.
        let moved = unsafe { self.0.alloc(moved_layout) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least that long, and they are two.
            unsafe { moved.copy_from_nonoverlapping(block, layout.size().min(size)) };
            // SAFETY: the block is not used any more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::sync::Mutex;

    use super::*;

    /// Frees nothing, so that what was freed can be read.
    #[derive(Default)]
    struct Kept(Mutex<Vec<(usize, usize)>>);

    // SAFETY: blocks are those of the system's allocator, which get back to it when this is dropped.
    unsafe impl GlobalAlloc for Kept {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.0.lock().unwrap().push((block as usize, layout.size()));
        }
    }

    impl Kept {
        /// What the blocks that were freed contain.
        fn freed(&self) -> Vec<Vec<u8>> {
            let freed = self.0.lock().unwrap();
            // SAFETY: they are not freed yet.
            freed
                .iter()
                .map(|(at, size)| unsafe { std::slice::from_raw_parts(*at as *const u8, *size) }.to_vec())
                .collect()
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            for (at, size) in self.0.lock().unwrap().drain(..) {
                // SAFETY: the layout is that of `block`.
                unsafe { System.dealloc(at as *mut u8, Layout::from_size_align(size, 1).unwrap()) };
            }
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 1).unwrap()
    }

    fn block(allocator: &Zeroing<Kept>, size: usize) -> *mut u8 {
        // SAFETY: the size is not zero, and the block has it.
        unsafe {
            let block = allocator.alloc(layout(size));
            block.write_bytes(7, size);
            block
        }
    }

    #[test]
    fn what_is_freed_is_overwritten() {
        let allocator = Zeroing(Kept::default());
        let block = block(&allocator, 100);
        // SAFETY: it was allocated with this layout.
        unsafe { allocator.dealloc(block, layout(100)) };
        assert_eq!(allocator.0.freed(), [vec![0; 100]]);
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_its_content_and_leaves_nothing_behind() {
        for (from, to) in [(50, 5000), (5000, 50)] {
            let allocator = Zeroing(Kept::default());
            let block = block(&allocator, from);
            // SAFETY: it was allocated with this layout.
            let moved = unsafe { allocator.realloc(block, layout(from), to) };
            // SAFETY: so much was copied.
            let content = unsafe { std::slice::from_raw_parts(moved, from.min(to)) };
            assert!(content.iter().all(|byte| *byte == 7));
            assert_eq!(allocator.0.freed(), [vec![0; from]]);
            // SAFETY: it was allocated with this layout.
            unsafe { allocator.dealloc(moved, layout(to)) };
        }
    }
}
