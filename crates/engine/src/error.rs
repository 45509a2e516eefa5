//! What a socket call can fail with: Linux's errno values by their names.

/// The result of a socket call.
pub type Result<T> = core::result::Result<T, SockError>;

macro_rules! errors {
    ($($name:ident $errno:literal $text:literal;)*) => {
        /// Why a socket call failed; each value is the errno Linux gives in the same case.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum SockError {
            $(#[doc = $text] $name = $errno,)*
        }

        impl SockError {
            /// Linux's number for it.
            pub const fn errno(self) -> i32 {
                self as u8 as i32
            }

            /// Linux's name for it, as in errno(3).
            pub const fn name(self) -> &'static str {
                match self { $(SockError::$name => stringify!($name),)* }
            }

            /// Linux's message for it, as strerror(3) gives it.
            pub const fn message(self) -> &'static str {
                match self { $(SockError::$name => $text,)* }
            }
        }
    };
}

// The names are errno's own, so that a reader can look each up in errno(3).
errors! {
    EPERM 1 "Operation not permitted";
    ENOENT 2 "No such file or directory";
    EINTR 4 "Interrupted system call";
    EBADF 9 "Bad file descriptor";
    EAGAIN 11 "Resource temporarily unavailable";
    ENOMEM 12 "Cannot allocate memory";
    EACCES 13 "Permission denied";
    EFAULT 14 "Bad address";
    EINVAL 22 "Invalid argument";
    EPIPE 32 "Broken pipe";
    EDOM 33 "Numerical argument out of domain";
    EPROTO 71 "Protocol error";
    ENOTSOCK 88 "Socket operation on non-socket";
    EDESTADDRREQ 89 "Destination address required";
    EMSGSIZE 90 "Message too long";
    ENOPROTOOPT 92 "Protocol not available";
    EPROTONOSUPPORT 93 "Protocol not supported";
    EOPNOTSUPP 95 "Operation not supported";
    EAFNOSUPPORT 97 "Address family not supported by protocol";
    EADDRINUSE 98 "Address already in use";
    EADDRNOTAVAIL 99 "Cannot assign requested address";
    ENETDOWN 100 "Network is down";
    ENETUNREACH 101 "Network is unreachable";
    ECONNABORTED 103 "Software caused connection abort";
    ECONNRESET 104 "Connection reset by peer";
    ENOBUFS 105 "No buffer space available";
    EISCONN 106 "Transport endpoint is already connected";
    ENOTCONN 107 "Transport endpoint is not connected";
    ETIMEDOUT 110 "Connection timed out";
    ECONNREFUSED 111 "Connection refused";
    EHOSTDOWN 112 "Host is down";
    EHOSTUNREACH 113 "No route to host";
    EALREADY 114 "Operation already in progress";
    EINPROGRESS 115 "Operation now in progress";
}

impl core::fmt::Display for SockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.message(), self.name())
    }
}

impl core::error::Error for SockError {}
