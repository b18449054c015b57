//! What the tests stand on.

mod dir;
mod frames;
mod http;
mod mqtt;
mod node;
mod pki;
mod ports;
mod process;
mod read;
mod relay;
mod small_disk;
mod wait;

pub(crate) use dir::Dir;
pub(crate) use frames::{agent_connect, frame};
pub(crate) use http::{get, post, request};
pub(crate) use mqtt::{Mqtt, client_config, connect_as};
pub(crate) use node::{Agent, Centre, Node, SinkKind};
pub(crate) use pki::{Files, Pki};
pub(crate) use ports::{port, ports};
pub(crate) use process::Process;
pub(crate) use read::{Message, events, losses, messages, ndjson, payloads};
pub(crate) use relay::{Document, HttpProxy, TcpPath, UdpPath};
pub(crate) use small_disk::SmallDisk;
pub(crate) use wait::{PATIENCE, pause, until};
