//! Tests of shipping: the session core on a virtual clock, a random model, the driver over loopback.

#[cfg(feature = "source-devices")]
mod loopback;
mod random;
mod session;
mod world;
