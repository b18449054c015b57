//! What stands between an agent and a centre: a path that swallows large datagrams, a way that leads
//! elsewhere, an HTTP proxy.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often its threads look whether they shall end.
const LOOK: Duration = Duration::from_millis(50);

/// A path for datagrams, as a NAT has it.
pub(crate) struct UdpPath {
    pub(crate) port: u16,
    /// Datagrams swallowed so far.
    pub(crate) swallowed: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl UdpPath {
    /// To `centre`; datagrams larger than `max_bytes` do not get through, either way.
    pub(crate) fn start(centre: u16, max_bytes: usize) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        near.set_read_timeout(Some(LOOK)).unwrap();
        let port = near.local_addr().unwrap().port();
        let (swallowed, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (swallowed.clone(), ended.clone());
        std::thread::spawn(move || {
            let mut flows: HashMap<SocketAddr, UdpSocket> = HashMap::new();
            let mut datagram = [0; 65_536];
            while !end.load(Relaxed) {
                let Ok((n, from)) = near.recv_from(&mut datagram) else { continue };
                let flow = flows.entry(from).or_insert_with(|| {
                    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                    far.connect((Ipv4Addr::LOCALHOST, centre)).unwrap();
                    far.set_read_timeout(Some(LOOK)).unwrap();
                    let (back, near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                    let (count, end) = (count.clone(), end.clone());
                    std::thread::spawn(move || {
                        let mut datagram = [0; 65_536];
                        while !end.load(Relaxed) {
                            match back.recv(&mut datagram) {
                                Ok(n) if n > max_bytes => _ = count.fetch_add(1, Relaxed),
                                Ok(n) => _ = near.send_to(&datagram[..n], from),
                                Err(_) => {}
                            }
                        }
                    });
                    far
                });
                if n > max_bytes {
                    count.fetch_add(1, Relaxed);
                } else {
                    flow.send(&datagram[..n]).ok();
                }
            }
        });
        Self { port, swallowed, ended }
    }
}

impl Drop for UdpPath {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}

/// A way for TCP connections that can be led elsewhere.
pub(crate) struct TcpPath {
    pub(crate) port: u16,
    target: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
}

impl TcpPath {
    pub(crate) fn start(centre: u16) -> Self {
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let (target, ended) = (Arc::new(AtomicU16::new(centre)), Arc::new(AtomicBool::new(false)));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (to, streams, end) = (target.clone(), open.clone(), ended.clone());
        accept(listener, end, move |near| {
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to.load(Relaxed))) else { return };
            streams.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
            join(near, far);
        });
        Self { port, target, open, ended }
    }

    /// New connections go to `centre`; those that are open are cut.
    pub(crate) fn lead_to(&self, centre: u16) {
        self.target.store(centre, Relaxed);
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for TcpPath {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.lead_to(0);
    }
}

/// An HTTP proxy that knows only CONNECT (RFC 9110 section 9.3.6).
pub(crate) struct HttpProxy {
    pub(crate) port: u16,
    /// Tunnels opened so far.
    pub(crate) tunnels: Arc<AtomicUsize>,
    /// Requests that it refused.
    pub(crate) refused: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl HttpProxy {
    /// Lets in who shows `Proxy-Authorization: Basic <credentials>`.
    pub(crate) fn start(credentials: &'static str) -> Self {
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let (tunnels, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let (good, bad, end) = (tunnels.clone(), refused.clone(), ended.clone());
        accept(listener, end, move |mut near| {
            let Some(head) = head_of(&mut near) else { return };
            let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
            let shown = format!("Proxy-Authorization: Basic {credentials}\r\n");
            let Some(target) = target.filter(|_| head.contains(&shown)) else {
                bad.fetch_add(1, Relaxed);
                near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    .ok();
                return;
            };
            let Ok(far) = TcpStream::connect(target) else { return };
            good.fetch_add(1, Relaxed);
            if near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok() {
                join(near, far);
            }
        });
        Self { port, tunnels, refused, ended }
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}

/// A web server with one document, for GET.
pub(crate) struct Document {
    pub(crate) port: u16,
    text: Arc<Mutex<String>>,
    ended: Arc<AtomicBool>,
}

impl Document {
    pub(crate) fn start(text: String) -> Self {
        let listener = listener();
        let port = listener.local_addr().unwrap().port();
        let (text, ended) = (Arc::new(Mutex::new(text)), Arc::new(AtomicBool::new(false)));
        let (says, end) = (text.clone(), ended.clone());
        accept(listener, end, move |mut near| {
            if head_of(&mut near).is_some() {
                let body = says.lock().unwrap().clone();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                near.write_all(format!("{head}{body}").as_bytes()).ok();
            }
        });
        Self { port, text, ended }
    }

    pub(crate) fn change(&self, text: String) {
        *self.text.lock().unwrap() = text;
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}

fn listener() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// A thread for each connection, until `ended`.
fn accept(listener: TcpListener, ended: Arc<AtomicBool>, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        while !ended.load(Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).ok();
                    let serve = serve.clone();
                    std::thread::spawn(move || serve(stream));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK / 10),
                Err(_) => return,
            }
        }
    });
}

/// Both ways, until either side ends.
fn join(near: TcpStream, far: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        io::copy(&mut from, &mut to).ok();
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    };
    let (a, b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || copy(b, a));
    copy(near, far);
}

/// The head of a request, its empty line included.
fn head_of(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
