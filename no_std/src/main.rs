//! A program without std, without a C library, with an allocator of its own: what a unikernel would link.
#![no_std]
#![no_main]

mod mem;

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

// Linked for what they need, if not called.
use estab_engine as _;
use estab_proto as _;
use estab_wire::{ip, tcp};

/// Hands out a fixed piece of memory from front to back, and takes nothing back.
struct Bump {
    memory: UnsafeCell<[u8; Bump::SIZE]>,
    used: AtomicUsize,
}

impl Bump {
    const SIZE: usize = 64 << 20;
}

// SAFETY: `used` hands each byte of `memory` out once.
unsafe impl Sync for Bump {}

// SAFETY: blocks are aligned as asked, don't overlap, and live as long as the program.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.memory.get() as usize;
        let fit = |used: usize| {
            let start = (base + used).next_multiple_of(layout.align()) - base;
            start.checked_add(layout.size()).filter(|end| *end <= Bump::SIZE)
        };
        match self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, fit) {
            Ok(used) => (base + used).next_multiple_of(layout.align()) as *mut u8,
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Bump = Bump {
    memory: UnsafeCell::new([0; Bump::SIZE]),
    used: AtomicUsize::new(0),
};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

/// The kernel jumps here with an aligned stack, which a function expects to find as after a call.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _start() -> ! {
    naked_asm!("call {main}", main = sym main)
}

extern "C" fn main() -> ! {
    exit(if answers_a_syn() { 0 } else { 1 })
}

fn exit(status: i32) -> ! {
    // SAFETY: exit_group takes a number and doesn't come back.
    unsafe { asm!("syscall", in("rax") 231, in("edi") status, options(noreturn)) }
}

/// A SYN, written and read.
fn answers_a_syn() -> bool {
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let mut packet = [0; 60];
    let options = tcp::Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        ..Default::default()
    };
    let syn = tcp::Header {
        src_port: 40_000,
        dst_port: 80,
        flags: tcp::flags::SYN,
        window: 64_240,
        ..Default::default()
    };
    let Some(len) = syn.write(&mut packet[20..], &options) else {
        return false;
    };
    tcp::set_checksum(&mut packet[20..20 + len], src, dst, Default::default(), 0);
    let header = ip::ipv4::Header::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), ip::protocol::TCP);
    if header.write(&mut packet, len).is_none() {
        return false;
    }
    let Ok(read) = ip::Packet::parse(&packet) else {
        return false;
    };
    tcp::checksum_ok(read.src, read.dst, read.payload)
        && tcp::Segment::parse(read.payload).is_ok_and(|segment| segment.options == options)
}
