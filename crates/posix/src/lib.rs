//! BSD sockets as a C ABI over an estab stack.
//!
//! Today one user is served: packetdrill, which loads `libestab_posix.so` (`--so_filename`) and drives a stack on a
//! virtual clock through [`packetdrill::packetdrill_interface_init`]. Calls behave as Linux's do, errno included.
//! The same library is also to be preloaded (`LD_PRELOAD`), since packetdrill asks the C library for TCP_INFO and
//! sendfile: [`preload`] answers for this library's own descriptors and hands everything else to the kernel.
//!
//! One module a concern: `world` the stack, its clock and its packets; `fd` descriptors; `calls` the socket
//! calls; `sockopt` options; `epoll` readiness; `addr` and `tcp_info` the kernel's layouts.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod abi;
mod addr;
mod calls;
mod epoll;
mod fd;
mod memory;
pub mod packetdrill;
pub mod preload;
mod sockopt;
mod tcp_info;
mod world;
