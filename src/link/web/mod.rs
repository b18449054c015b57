//! Web servers as peers: where they are ([`Url`]), a connection to one ([`Connector`]), and a small
//! document from one ([`fetch`]).

mod connect;
mod fetch;
mod url;

pub use connect::Connector;
pub use fetch::fetch;
pub use url::Url;
