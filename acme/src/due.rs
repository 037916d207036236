//! Which sets of names are due (pure).
