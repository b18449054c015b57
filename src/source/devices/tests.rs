//! The session over bytes in memory, and the listener over real sockets.

mod hostile;
mod kit;
mod listener;
mod session;
