//! The tasks beside the peers: smol's `LocalExecutor`, polled only when its waker fired.
//!
//! The waker is an eventfd in the same epoll instance as the peers, so sources, timers and signals
//! cost nothing while they sleep. async-io's own thread waits for their descriptors.

use core::pin::Pin;
use core::task::{Context, Waker};
use std::io;
use std::sync::Arc;
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use smol::LocalExecutor;

/// An eventfd that a task's readiness is written to.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Arc<Bell>> {
        Ok(Arc::new(Bell(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// To be watched.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        // It can only fail when it is ringing already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// The executor's own future, and the bell it is to be polled for.
pub(super) struct Tasks<'e> {
    run: Pin<Box<dyn Future<Output = ()> + 'e>>,
    bell: Arc<Bell>,
}

impl<'e> Tasks<'e> {
    pub(super) fn new(executor: &'e LocalExecutor<'static>, bell: Arc<Bell>) -> Tasks<'e> {
        Tasks {
            run: Box::pin(executor.run(core::future::pending())),
            bell,
        }
    }

    /// Lets every task run that can.
    pub(super) fn poll(&mut self) {
        self.bell.silence();
        let waker = Waker::from(self.bell.clone());
        let _ = self.run.as_mut().poll(&mut Context::from_waker(&waker));
    }
}
