use std::fmt;
use std::sync::Arc;

/// Bytes that must not be seen: a private key, a password. Prints as `***`.
///
/// Cloning shares the bytes. Equality compares them (used only to notice a changed Secret).
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Wraps `bytes`.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_its_bytes() {
        assert_eq!(format!("{:?}", Secret::new(*b"hunter2")), "***");
    }
}
