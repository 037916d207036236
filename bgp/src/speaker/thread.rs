use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A thread with a runtime of its own.
///
/// A change of the table can take long: a peer with hundreds of thousands of routes goes, and all of them are decided
/// anew. KEEPALIVEs of the other peers must go out meanwhile, so that no peer's routes can cost another one's session, and
/// control must go on. Writing to the kernel takes longer still.
#[derive(Debug)]
pub(super) struct Thread {
    runtime: Handle,
    /// Ends the thread when the speaker is gone.
    _stop: DropGuard,
}

impl Thread {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name(name)
            .build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(stopped.cancelled());
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Self {
            runtime: handle,
            _stop: stop.drop_guard(),
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
