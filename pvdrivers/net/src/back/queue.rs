//! A queue's thread: serves both directions, then waits for the front end, the link, the clock or
//! the end.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno as HostErrno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pv_backend::{Host, HostChannel, Patience};
use pv_netdev::Link;
use pv_ring::RingError;
use xen_sys::errno::Errno;

use super::chains::ChainError;
use super::rx::{Rx, RxState};
use super::shared::Shared;
use super::stats::QueueCounters;
use super::tx::{Tx, TxState};

/// Why a queue ended on its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueueError {
    #[error("transmit ring: {0}")]
    Tx(#[from] ChainError),
    #[error("receive ring: {0}")]
    Rx(#[source] RingError),
    #[error("event channel: {0}")]
    Channel(#[source] std::io::Error),
    #[error("event channel: cannot notify the front end: {0}")]
    Notify(Errno),
    #[error("cannot wait: {0}")]
    Wait(HostErrno),
}

/// A queue.
pub(super) struct Queue<H: Host> {
    pub tx: Tx<H::Grants>,
    pub rx: Rx<H::Grants>,
    pub tx_channel: H::Channel,
    /// The receive ring's, if it has one of its own.
    pub rx_channel: Option<H::Channel>,
    pub link: Box<dyn Link>,
    pub shared: Arc<Shared>,
    /// Which of the card's.
    pub number: usize,
    pub counters: Arc<QueueCounters>,
}

impl<H: Host> Queue<H> {
    /// The calling thread serves the queue and nothing else from now on.
    pub fn confine(&self) {
        pv_backend::HostChannel::confine(&self.tx_channel, "vif");
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// The front end is broken or hostile, or the host fails.
    pub fn serve(&mut self) -> Result<(), QueueError> {
        let mut patience = Patience::default();
        let mut before = 0;
        while !self.shared.is_stopping() {
            let Some((tx, rx)) = self.turn()? else {
                continue;
            };
            let served = self.served();
            if let Some(patient) = patience.learn(served.wrapping_sub(before) as u32) {
                self.tx_channel.be_patient(patient);
            }
            before = served;
            self.wait(tx, rx)?;
        }
        Ok(())
    }

    /// Packets of both directions.
    fn served(&self) -> u64 {
        let QueueCounters {
            tx_packets,
            rx_packets,
            ..
        } = &*self.counters;
        tx_packets.get().wrapping_add(rx_packets.get())
    }

    /// A turn of both directions; what they wait for, if there is nothing to do now.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn turn(&mut self) -> Result<Option<(TxState, RxState)>, QueueError> {
        if self.link.blocked() && self.link.flush().is_err() {
            self.counters.tx_drops_link.add(1);
        }
        let (link, shared) = (&mut *self.link, &*self.shared);
        let (tx, notify_tx) = self.tx.turn(link, shared, &self.counters)?;
        let turn = self.rx.turn(link, shared, &self.counters);
        let (rx, notify_rx) = turn.map_err(QueueError::Rx)?;
        self.notify(notify_tx, notify_rx)?;
        if tx == TxState::More || rx == RxState::More {
            return Ok(None);
        }
        // Whatever lacks something asks for it before it sleeps.
        if tx == TxState::Idle && self.tx.final_check()? {
            return Ok(None);
        }
        let starved = matches!(rx, RxState::Starved(_) | RxState::Stalled);
        if starved && self.rx.final_check().map_err(QueueError::Rx)? {
            return Ok(None);
        }
        Ok(Some((tx, rx)))
    }

    fn notify(&self, tx: bool, rx: bool) -> Result<(), QueueError> {
        let send = |channel: &H::Channel| {
            self.counters.notifications_sent.add(1);
            pv_ring::EventChannel::notify(channel).map_err(QueueError::Notify)
        };
        match &self.rx_channel {
            None if tx || rx => send(&self.tx_channel),
            None => Ok(()),
            Some(rx_channel) => {
                if tx {
                    send(&self.tx_channel)?;
                }
                if rx {
                    send(rx_channel)?;
                }
                Ok(())
            }
        }
    }

    fn wait(&mut self, tx: TxState, rx: RxState) -> Result<(), QueueError> {
        let mut until: Option<Instant> = None;
        if let TxState::Limited(at) = tx {
            until = Some(at);
        }
        if let RxState::Starved(at) | RxState::Paused(at) = rx {
            until = Some(until.map_or(at, |other| other.min(at)));
        }
        let mut link = PollFlags::empty();
        if matches!(rx, RxState::Idle | RxState::Stalled) {
            link |= PollFlags::POLLIN;
        }
        if (tx == TxState::Blocked || self.link.blocked()) && rx != RxState::Gone {
            link |= PollFlags::POLLOUT;
        }
        self.sleep(until, link)?;
        self.counters.wakeups.add(1);
        for channel in [Some(&self.tx_channel), self.rx_channel.as_ref()] {
            let Some(channel) = channel else { continue };
            if channel.clear().map_err(QueueError::Channel)? {
                self.counters.notifications_received.add(1);
            }
        }
        Ok(())
    }

    /// Sleeps until one of the descriptors has something, or until that time.
    fn sleep(&self, until: Option<Instant>, link: PollFlags) -> Result<(), QueueError> {
        let fd = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let rx_channel = self.rx_channel.as_ref().unwrap_or(&self.tx_channel);
        let event: BorrowedFd<'_> = self.link.event();
        let mut fds = [
            fd(self.shared.news(self.number)),
            fd(self.tx_channel.as_fd()),
            fd(rx_channel.as_fd()),
            PollFd::new(event, link),
        ];
        // One that is not waited for would still tell of its end, again and again.
        let count = if link.is_empty() { 3 } else { 4 };
        let timeout = until.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now());
            let millis = left.as_nanos().div_ceil(1_000_000);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds[..count], timeout) {
            Ok(_) | Err(HostErrno::EINTR) => {}
            Err(error) => return Err(QueueError::Wait(error)),
        }
        if fds[0].any() == Some(true) {
            self.shared.heard(self.number);
        }
        Ok(())
    }
}
