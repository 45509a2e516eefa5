//! Windows: what stands in a header (scaled) and what it means (bytes) differ in type (RFC 7323 §2).

/// The shift of the window scale option, 0 to 14 (RFC 7323 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WindowScale(u8);

impl WindowScale {
    /// The largest shift a peer may use.
    pub const MAX: WindowScale = WindowScale(14);

    /// A shift of `bits`; more than 14 counts as 14, as RFC 7323 §2.3 asks.
    pub const fn new(bits: u8) -> WindowScale {
        if bits > 14 { WindowScale(14) } else { WindowScale(bits) }
    }

    /// The shift in bits.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// The window field of a header, still to be shifted by the sender's [`WindowScale`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ScaledWindow(pub u16);

impl ScaledWindow {
    /// The window in bytes.
    pub const fn bytes(self, scale: WindowScale) -> u32 {
        (self.0 as u32) << scale.0
    }

    /// The field for a window of `bytes`: rounded down to the scale, capped at what 16 bits hold.
    pub const fn of(bytes: u32, scale: WindowScale) -> ScaledWindow {
        let scaled = bytes >> scale.0;
        ScaledWindow(if scaled > 0xffff { 0xffff } else { scaled as u16 })
    }
}
