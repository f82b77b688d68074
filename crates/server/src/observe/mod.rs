//! What the server knows about itself: figures, how they are gathered, and how they are named. It changes
//! nothing.

pub mod histogram;
