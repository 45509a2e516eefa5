//! The TIME_WAITs that one stack leaves to the next on its addresses.

use crate::shared::Shared;
use estab_device::handover;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Leaves the stack's TIME_WAITs in a file when it is dropped.
pub(crate) struct Legacy {
    shared: Arc<Shared>,
    file: PathBuf,
}

impl Legacy {
    /// Takes over what the predecessor left in `file`.
    ///
    /// # Errors
    /// The file can't be read or is no such file; it then stays.
    pub(crate) fn of(shared: &Arc<Shared>, file: PathBuf) -> io::Result<Legacy> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", file.display()));
        if let Some(text) = handover::left(&file).map_err(named)? {
            let engine = &mut shared.lock().engine;
            let restored = engine.restore_timewaits(shared.now(), &text);
            restored.map_err(|e| named(io::Error::new(io::ErrorKind::InvalidData, e)))?;
            // With them no quiet time is needed.
            engine
                .set_sysctl("estab.tcp_quiet_time", "0")
                .map_err(io::Error::other)?;
            handover::taken(&file).map_err(named)?;
        }
        Ok(Legacy {
            shared: Arc::clone(shared),
            file,
        })
    }
}

impl Drop for Legacy {
    fn drop(&mut self) {
        let text = self.shared.lock().engine.save_timewaits(self.shared.now());
        if let Err(e) = handover::leave(&self.file, &text) {
            eprintln!("estab: {}: can't leave the TIME_WAITs: {e}", self.file.display());
        }
    }
}
