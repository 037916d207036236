use bytes::Bytes;

use crate::wire::{Fault, WireError};

/// Faults told in words per UPDATE; a hostile message may hold thousands.
const TOLD: usize = 8;

/// The faults of one UPDATE and the strongest action that they ask for (RFC 7606 section 3 (h)), short of a reset.
#[derive(Debug, Default)]
pub(super) struct Faults {
    words: Vec<String>,
    untold: usize,
    withdraw: Option<(Fault, Bytes)>,
}

impl Faults {
    /// A fault that needs no action beyond ignoring what was at fault (attribute discard).
    pub(super) fn note(&mut self, fault: Fault) {
        self.tell(&fault);
    }

    /// A fault that makes every prefix of the message withdrawn; `attribute` as it stood in the message.
    pub(super) fn withdraw_because(&mut self, fault: Fault, attribute: &[u8]) {
        self.tell(&fault);
        if self.withdraw.is_none() {
            self.withdraw = Some((fault, Bytes::copy_from_slice(attribute)));
        }
    }

    /// Whether the prefixes are to be treated as withdrawn.
    pub(super) fn withdraw(&self) -> bool {
        self.withdraw.is_some()
    }

    /// Turns treat-as-withdraw into a reset (RFC 7606 section 5.2).
    pub(super) fn escalate(&mut self) -> Result<(), WireError> {
        match self.withdraw.take() {
            Some((fault, attribute)) => Err(WireError::Update { fault, attribute }),
            None => Ok(()),
        }
    }

    /// The faults, each in words.
    pub(super) fn into_words(mut self) -> Vec<String> {
        if self.untold > 0 {
            self.words.push(format!("and {} faults more", self.untold));
        }
        self.words
    }

    fn tell(&mut self, fault: &Fault) {
        if self.words.len() < TOLD {
            self.words.push(fault.to_string());
        } else {
            self.untold = self.untold.saturating_add(1);
        }
    }
}

/// The error that ends the connection; `attribute` as it stood in the message.
pub(super) fn reset(fault: Fault, attribute: &[u8]) -> WireError {
    WireError::Update {
        fault,
        attribute: Bytes::copy_from_slice(attribute),
    }
}
