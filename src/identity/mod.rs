//! Who this installation is: the device's name, a random instance id, the number of the last epoch,
//! and the little else that must outlive the buffer (outside SQLite, so that a quarantined or deleted
//! buffer does not make dts use an epoch twice).
//!
//! Invariant: an epoch number is on disk, twice, before anybody uses it ([`Identity::next_epoch`]).
//! Either of the two copies may be torn, damaged or missing. If both are, this is a new instance and
//! says so ([`Opened::Replaced`]); the centre's answer to CONNECT then lifts the number again.

mod device;
mod record;
mod store;

#[cfg(test)]
mod tests;

pub use device::{DeviceName, NameError};
pub use record::Memory;
pub use store::{Identity, IdentityError, Opened, Shelf};
