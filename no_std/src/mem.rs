//! What the compiler takes for granted: the memory functions, which a C library would bring.
use core::arch::asm;

/// Named by the precompiled core; with panic = "abort" nothing calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise is memcpy's: `len` bytes on both sides, not overlapping.
    unsafe { asm!("rep movsb", inout("rcx") len => _, inout("rdi") dst => _, inout("rsi") src => _) };
    dst
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(dst: *mut u8, src: *const u8, len: usize) -> *mut u8 {
    if dst.addr().wrapping_sub(src.addr()) >= len {
        // SAFETY: copying forwards never overwrites what is still to be read.
        return unsafe { memcpy(dst, src, len) };
    }
    // SAFETY: as memcpy; backwards, from the last byte on, and the direction flag is put back.
    unsafe {
        let (last_dst, last_src) = (
            dst.wrapping_add(len).wrapping_sub(1),
            src.wrapping_add(len).wrapping_sub(1),
        );
        asm!("std", "rep movsb", "cld", inout("rcx") len => _, inout("rdi") last_dst => _, inout("rsi") last_src => _);
    }
    dst
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(dst: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise is memset's: `len` bytes to write to.
    unsafe { asm!("rep stosb", inout("rcx") len => _, inout("rdi") dst => _, in("al") byte as u8) };
    dst
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: the caller's promise is memcmp's: `len` bytes on both sides.
        let (a, b) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(a, b, len) }
}
