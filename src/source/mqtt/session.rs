//! One connection to the broker.

use std::collections::VecDeque;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};

use crate::event::builtin::{self, Payload};
use crate::event::{BatchBuilder, Op};
use crate::link::Io;
use crate::mqtt::client::{Client, ClientEvent, ClientOptions};
use crate::mqtt::{Connect, Publish, QoS, reason};
use crate::runtime::{self, Stop, mono_now};
use crate::source::{Outlet, Receipt, Refused};
use crate::telemetry;

/// For the CONNACK and for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a message row needs beside topic, payload and headers, with some room.
const MESSAGE_OVERHEAD: usize = 96;

/// What is subscribed, and the messages that wait for the buffer.
pub(super) struct Session {
    outlet: Outlet,
    filters: Vec<String>,
    qos: QoS,
    window: u16,
    max_packet_bytes: usize,
    /// Packet id (0 with QoS 0) and receipt, in the order of the messages.
    waiting: VecDeque<(u16, Receipt)>,
    connected: bool,
}

enum Wake {
    Read(usize),
    Stored(Result<(), Refused>),
    Timeout,
    Stop,
}

impl Session {
    pub(super) fn new(
        outlet: Outlet,
        filters: Vec<String>,
        qos: QoS,
        window: u16,
        max_packet_bytes: usize,
    ) -> Self {
        Self { outlet, filters, qos, window, max_packet_bytes, waiting: VecDeque::new(), connected: false }
    }

    /// Whether the broker took the connection.
    pub(super) fn was_connected(&self) -> bool {
        self.connected
    }

    /// Until `stop` (`Ok`), or until the connection is over.
    pub(super) async fn run(&mut self, io: Box<dyn Io>, connect: Connect, stop: &Stop) -> Result<(), String> {
        let options = ClientOptions {
            connect,
            max_packet_bytes: self.max_packet_bytes,
            window: self.window,
            ping_timeout: PING_TIMEOUT,
        };
        let mut client = Client::new(options, mono_now()).map_err(|e| e.to_string())?;
        let (mut read, mut write) = futures_lite::io::split(io);
        let mut chunk = vec![0; 16 * 1024];
        let mut stopping = false;
        loop {
            while let Some(event) = client.poll_event() {
                self.handle(event, &mut client).await?;
            }
            while let Some(bytes) = client.poll_transmit() {
                let written = runtime::timeout(PING_TIMEOUT, write.write_all(&bytes)).await;
                written.ok_or("the broker takes no bytes")?.map_err(|e| format!("write: {e}"))?;
            }
            if stopping && self.waiting.is_empty() {
                client.disconnect(reason::SUCCESS);
                while let Some(bytes) = client.poll_transmit() {
                    write.write_all(&bytes).await.ok();
                }
                write.close().await.ok();
                return Ok(());
            }
            let ready = client.ready() && !stopping && self.waiting.len() < usize::from(self.window.max(1));
            let wake = self.wake(&mut read, &mut chunk, ready, client.poll_timeout(), stop, stopping).await?;
            match wake {
                Wake::Read(0) => return Err("the broker closed the connection".to_owned()),
                // A violation comes back as an event.
                Wake::Read(n) => {
                    client.receive(mono_now(), chunk.get(..n).unwrap_or_default()).unwrap_or_default()
                }
                Wake::Stored(result) => self.stored(result, &mut client)?,
                Wake::Timeout => client.handle_timeout(mono_now()).unwrap_or_default(),
                Wake::Stop => stopping = true,
            }
        }
    }

    /// Waits for whatever comes first; what is stored goes before what is new.
    async fn wake(
        &mut self,
        read: &mut (impl futures_lite::AsyncRead + Unpin),
        chunk: &mut [u8],
        ready: bool,
        timeout: Option<runtime::Mono>,
        stop: &Stop,
        stopping: bool,
    ) -> Result<Wake, String> {
        let stored = async {
            match self.waiting.front_mut() {
                Some((_, receipt)) => Ok(Wake::Stored(receipt.await)),
                None => std::future::pending().await,
            }
        };
        let stopped = async {
            if stopping {
                return std::future::pending().await;
            }
            stop.wait().await;
            Ok(Wake::Stop)
        };
        let read = async {
            if !ready {
                return std::future::pending().await;
            }
            read.read(chunk).await.map(Wake::Read).map_err(|e| format!("read: {e}"))
        };
        let timeout = async {
            match timeout {
                Some(at) => runtime::sleep_until(at).await,
                None => std::future::pending().await,
            }
            Ok(Wake::Timeout)
        };
        stored.or(stopped).or(read).or(timeout).await
    }

    async fn handle(&mut self, event: ClientEvent, client: &mut Client) -> Result<(), String> {
        match event {
            ClientEvent::Connected(_) => {
                self.connected = true;
                let filters: Vec<(&str, QoS)> = self.filters.iter().map(|f| (f.as_str(), self.qos)).collect();
                client.subscribe(&filters).map(|_| ()).map_err(|e| e.to_string())
            }
            ClientEvent::Refused(connack) => {
                let why = connack.reason_string.unwrap_or_default();
                Err(format!("refused with reason {:#04x} {why}", connack.reason))
            }
            ClientEvent::Subscribed(answer) => {
                for (filter, code) in self.filters.iter().zip(&answer.reasons) {
                    if *code >= 0x80 {
                        log::error!(
                            "source `{}`: the broker refuses `{filter}` ({code:#04x})",
                            self.outlet.source
                        );
                    }
                }
                if answer.reasons.iter().all(|code| *code >= 0x80) {
                    return Err(
                        "every subscription was refused; ask for the right to read these topics".to_owned()
                    );
                }
                log::info!("source `{}`: subscribed", self.outlet.source);
                Ok(())
            }
            ClientEvent::Message(publish) => {
                self.take(*publish, client).await;
                Ok(())
            }
            ClientEvent::Acked { .. } => Ok(()),
            ClientEvent::Closed(disconnect) => {
                let why = disconnect.reason_string.unwrap_or_default();
                Err(format!("the broker disconnects with reason {:#04x} {why}", disconnect.reason))
            }
            ClientEvent::Failed(error) => Err(error.to_string()),
        }
    }

    async fn take(&mut self, publish: Publish, client: &mut Client) {
        let id = if publish.qos == QoS::AtMostOnce { 0 } else { publish.packet_id };
        let headers = headers(&publish);
        let headers = headers.as_deref();
        let size =
            publish.topic.len() + publish.payload.len() + headers.map_or(0, str::len) + MESSAGE_OVERHEAD;
        let values = builtin::message_values(&publish.topic, None, Payload::guess(&publish.payload), headers);
        let mut batch = BatchBuilder::new(self.outlet.source.clone());
        let pushed = size <= self.outlet.max_row_bytes
            && batch
                .push(
                    Op::Message,
                    self.outlet.stamp.next(),
                    builtin::message(),
                    None,
                    builtin::image(&values),
                )
                .is_ok();
        if pushed {
            self.waiting.push_back((id, self.outlet.submit(batch.finish()).await));
        } else {
            self.drop_message(id, size, client);
        }
    }

    /// The message at the front is safe, or was refused.
    fn stored(&mut self, result: Result<(), Refused>, client: &mut Client) -> Result<(), String> {
        let Some((id, _)) = self.waiting.pop_front() else { return Ok(()) };
        match result {
            Ok(()) => {
                if id != 0 {
                    client.ack(id, reason::SUCCESS);
                }
                Ok(())
            }
            Err(Refused::TooLarge { bytes, .. }) => {
                self.drop_message(id, bytes, client);
                Ok(())
            }
            // Not acknowledged: the broker sends it again after the reconnect.
            Err(refused) => Err(refused.to_string()),
        }
    }

    /// No frame can carry it, now or ever: answered, so that it does not come again, and counted as lost.
    fn drop_message(&self, id: u16, bytes: usize, client: &mut Client) {
        if id != 0 {
            client.ack(id, reason::IMPLEMENTATION_SPECIFIC);
        }
        let label = [("source", &*self.outlet.source), ("reason", "too_large")];
        telemetry::count("dts_source_dropped_rows_total", &label, 1);
        log::error!("source `{}`: a message of {bytes} bytes fits no frame and is lost", self.outlet.source);
    }
}

/// User properties and content type as a JSON object; `None` without any.
fn headers(publish: &Publish) -> Option<String> {
    let mut map = serde_json::Map::new();
    if let Some(content_type) = &publish.content_type {
        map.insert("content-type".to_owned(), content_type.as_str().into());
    }
    for (name, value) in &publish.user {
        map.insert(name.clone(), value.as_str().into());
    }
    (!map.is_empty()).then(|| serde_json::Value::Object(map).to_string())
}

/// Connects and disconnects; an error says why the broker would not.
pub(super) async fn probe(mut io: Box<dyn Io>, connect: Connect) -> Result<(), String> {
    let options =
        ClientOptions { connect, max_packet_bytes: 64 * 1024, window: 1, ping_timeout: PING_TIMEOUT };
    let mut client = Client::new(options, mono_now()).map_err(|e| e.to_string())?;
    let talk = async {
        let mut chunk = [0; 1024];
        loop {
            while let Some(bytes) = client.poll_transmit() {
                io.write_all(&bytes).await.map_err(|e| e.to_string())?;
            }
            match client.poll_event() {
                Some(ClientEvent::Connected(_)) => {
                    client.disconnect(reason::SUCCESS);
                    while let Some(bytes) = client.poll_transmit() {
                        io.write_all(&bytes).await.ok();
                    }
                    io.close().await.ok();
                    return Ok(());
                }
                Some(ClientEvent::Refused(connack)) => {
                    return Err(format!("refused with reason {:#04x}", connack.reason));
                }
                Some(ClientEvent::Failed(error)) => return Err(error.to_string()),
                Some(_) => {}
                None => {
                    let n = io.read(&mut chunk).await.map_err(|e| e.to_string())?;
                    if n == 0 {
                        return Err("the broker closed the connection".to_owned());
                    }
                    client.receive(mono_now(), chunk.get(..n).unwrap_or_default()).unwrap_or_default();
                }
            }
        }
    };
    runtime::timeout(PING_TIMEOUT, talk).await.unwrap_or_else(|| Err("no answer".to_owned()))
}
