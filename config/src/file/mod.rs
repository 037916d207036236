//! The box's file: TOML text to [`Settings`](crate::model::Settings), every fault reported at once.
