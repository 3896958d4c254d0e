//! Keeps small blocks that a thread frees for its next requests. What is below takes a lock, and looks for a free slot.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;

/// The slots of musl, in units of 16 bytes, of which it uses 4 itself. A block that fills its slot wastes none of it.
const SLOTS: [u16; 36] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 25, 31, 36, 42, 50, 63, 72, 84, 102, 127, 146, 170, 204, 255, 292,
    340, 409, 511, 584, 682, 818, 1023,
];
const UNIT: usize = 16;
const USED: usize = 4;
/// Other alignments are rare.
const ALIGN: usize = 8;
/// What is kept of each size at most, in bytes and in blocks of the larger sizes.
const ROOM: usize = 8 * 1024;
const LEAST: usize = 2;

/// The first slot that has so many units.
const CLASSES: [u8; SLOTS[SLOTS.len() - 1] as usize + 1] = {
    let (mut classes, mut class, mut units) = ([0; _], 0, 0);
    while units < classes.len() {
        if (SLOTS[class as usize] as usize) < units {
            class += 1;
        }
        classes[units] = class;
        units += 1;
    }
    classes
};

/// Blocks of one size that are free. Each begins with the address of the next.
struct Free {
    first: Cell<*mut u8>,
    /// How many more are kept.
    room: Cell<usize>,
}

thread_local! {
    static FREE: [Free; SLOTS.len()] =
        const { [const { Free { first: Cell::new(ptr::null_mut()), room: Cell::new(0) } }; SLOTS.len()] };
}

/// Keeps small blocks for the next requests, on each thread that asked for that. What a thread keeps is not freed with it.
pub struct Pooled<A>(pub A);

impl<A> Pooled<A> {
    /// From now on, keeps what this thread frees.
    pub fn keep(&self) {
        FREE.with(|free| free.iter().zip(SLOTS).for_each(|(free, slot)| free.room.set((ROOM / size(slot)).max(LEAST))));
    }
}

const fn size(slot: u16) -> usize {
    slot as usize * UNIT - USED
}

/// The class of the blocks that serve a request; `None`: such blocks are not kept.
fn class(layout: Layout) -> Option<usize> {
    let class = CLASSES.get((layout.size() + USED).div_ceil(UNIT)).copied().map(usize::from);
    class.filter(|_| layout.align() <= ALIGN)
}

/// The layout of all blocks of a class.
fn block(class: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and no size is near the limit.
    unsafe { Layout::from_size_align_unchecked(size(SLOTS[class]), ALIGN) }
}

impl Free {
    fn take(&self) -> *mut u8 {
        let first = self.first.get();
        if !first.is_null() {
            // SAFETY: what is kept begins with the address of the next.
            self.first.set(unsafe { first.cast::<*mut u8>().read_unaligned() });
            self.room.set(self.room.get() + 1);
        }
        first
    }

    fn keep(&self, block: *mut u8) -> bool {
        let Some(room) = self.room.get().checked_sub(1) else { return false };
        // SAFETY: the smallest block has room for an address, all have its alignment, and nobody else uses it any more.
        unsafe { block.cast::<*mut u8>().write_unaligned(self.first.get()) };
        self.first.set(block);
        self.room.set(room);
        true
    }
}

// SAFETY: each block comes from the inner allocator and goes back to it with the layout that it was requested with, which
// its class determines.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Pooled<A> {
    // Called from thousands of places, into each of which it would be copied.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            // SAFETY: as the caller promises.
            return unsafe { self.0.alloc(layout) };
        };
        let kept = FREE.with(|free| free[class].take());
        if !kept.is_null() {
            return kept;
        }
        // SAFETY: the size is not zero.
        unsafe { self.0.alloc(block(class)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class(layout).is_none() {
            // The kernel fills large blocks, where they are used.
            // SAFETY: as the caller promises.
            return unsafe { self.0.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it is at least that long.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, freed: *mut u8, layout: Layout) {
        let Some(class) = class(layout) else {
            // SAFETY: as the caller promises.
            return unsafe { self.0.dealloc(freed, layout) };
        };
        if !FREE.with(|free| free[class].keep(freed)) {
            // SAFETY: it was requested with this layout.
            unsafe { self.0.dealloc(freed, block(class)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts what reaches the system's allocator.
    #[derive(Default)]
    struct Counted {
        requested: AtomicUsize,
        freed: AtomicUsize,
    }

    // SAFETY: all is passed on to the system's allocator.
    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.requested.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.freed.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(block, layout) }
        }
    }

    impl Pooled<Counted> {
        fn counts(&self) -> (usize, usize) {
            (self.0.requested.load(Ordering::Relaxed), self.0.freed.load(Ordering::Relaxed))
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 1).unwrap()
    }

    /// Requests so many blocks at once, uses them in full, and frees them.
    fn pass(allocator: &Pooled<Counted>, size: usize, count: usize) {
        // SAFETY: the size is not zero, and each block has it and is freed with its layout.
        unsafe {
            let blocks: Vec<*mut u8> = (0..count).map(|_| allocator.alloc(layout(size))).collect();
            for (n, block) in (0..=u8::MAX).cycle().zip(&blocks) {
                block.write_bytes(n, size);
            }
            for (n, block) in (0..=u8::MAX).cycle().zip(blocks) {
                assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == n), "{size}");
                allocator.dealloc(block, layout(size));
            }
        }
    }

    #[test]
    fn a_thread_that_asked_for_it_gets_back_what_it_freed() {
        let allocator = Pooled(Counted::default());
        pass(&allocator, 100, 3);
        assert_eq!(allocator.counts(), (3, 3), "nothing is kept before");
        allocator.keep();
        (0..10).for_each(|_| pass(&allocator, 100, 3));
        assert_eq!(allocator.counts(), (6, 3));
        std::thread::scope(|scope| scope.spawn(|| pass(&allocator, 100, 3)).join().unwrap());
        assert_eq!(allocator.counts(), (9, 6), "each thread asks for itself");
    }

    #[test]
    fn little_is_kept_and_nothing_of_large_blocks() {
        let allocator = Pooled(Counted::default());
        allocator.keep();
        for (size, kept) in
            [(1, 682), (12, 682), (13, 292), (100, 75), (2028, 4), (16_000, 2), (16_365, 0), (100_000, 0)]
        {
            let (requested, freed) = allocator.counts();
            pass(&allocator, size, 1000);
            let counts = allocator.counts();
            let before = if size == 12 { 682 } else { 0 };
            assert_eq!((counts.0 - requested, counts.1 - freed), (1000 - before, 1000 - kept), "{size}");
        }
    }

    #[test]
    fn any_size_gets_a_block_that_is_long_enough() {
        let allocator = Pooled(Counted::default());
        allocator.keep();
        (1..2100).for_each(|size| pass(&allocator, size, 5));
        for size in 1..2100 {
            // SAFETY: the size is not zero, and the block has it and is freed with its layout.
            unsafe {
                let block = allocator.alloc_zeroed(layout(size));
                assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0), "{size}");
                allocator.dealloc(block, layout(size));
            }
        }
    }
}
