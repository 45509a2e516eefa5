//! BSD sockets as a C ABI over an estab stack.
//!
//! Three ways in, one behaviour, Linux's, errno included:
//!
//! - **preloaded** (`LD_PRELOAD=libestab_posix.so ESTAB_STACK='tun=tun0 local=10.0.0.2/24 gateway=10.0.0.1' CMD`): an
//!   unchanged program's sockets open on a stack of its own over a TUN ([`preload`]);
//! - **linked**: a program calls `estab_start` and then `estab_socket`, `estab_connect` and so on (`include/estab.h`,
//!   [`abi`]). The kernel's select(2), poll(2) and epoll(7) work on the descriptors;
//! - **packetdrill** loads it (`--so_filename`) and drives a stack on a virtual clock ([`packetdrill`]).
//!
//! One module a concern: `world` the stack, its clock and its packets; `live` the real clock and the TUN; `mirror` what the
//! kernel may poll; `fd` descriptors; `calls` the socket calls; `sockopt` options; `epoll` packetdrill's readiness; `addr`,
//! `memory` and `tcp_info` the kernel's layouts.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod abi;
mod addr;
mod calls;
mod commands;
mod epoll;
mod fd;
mod live;
mod md5sig;
mod memory;
mod mirror;
pub mod packetdrill;
pub mod preload;
mod sockopt;
mod tcp_info;
mod world;
