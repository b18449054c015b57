//! A relay between agents and centre that counts bytes and can swallow UDP, so that nobody needs to be root.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use async_net::{TcpListener, TcpStream, UdpSocket};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};

use crate::runtime::{Stop, spawn};

/// What went through, in both directions. TCP's own headers are not counted, UDP's neither.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) udp_bytes: Cell<u64>,
    pub(super) tcp_bytes: Cell<u64>,
    pub(super) tcp_open: Cell<u32>,
    /// Datagrams swallowed.
    pub(super) swallowed: Cell<u64>,
    /// While set, no datagram passes.
    pub(super) black_hole: Cell<bool>,
}

fn add(cell: &Cell<u64>, n: usize) {
    cell.set(cell.get() + n as u64);
}

/// Relays UDP and TCP from two free ports of loopback to `quic` and `tcp`; returns the ports.
pub(super) async fn start(
    quic: SocketAddr,
    tcp: SocketAddr,
    traffic: Rc<Traffic>,
    stop: Stop,
) -> io::Result<(u16, u16)> {
    let udp_in = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let tcp_in = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ports = (udp_in.local_addr()?.port(), tcp_in.local_addr()?.port());
    let (t, s) = (traffic.clone(), stop.clone());
    spawn(async move {
        s.clone().or(udp(udp_in, quic, t, s)).await;
    })
    .detach();
    spawn(async move {
        stop.or(accept(tcp_in, tcp, traffic)).await;
    })
    .detach();
    Ok(ports)
}

/// One socket towards the centre for each address that an agent sends from, as a NAT has.
async fn udp(socket: UdpSocket, centre: SocketAddr, traffic: Rc<Traffic>, stop: Stop) {
    let flows: Rc<RefCell<HashMap<SocketAddr, UdpSocket>>> = Rc::default();
    let mut datagram = vec![0; 65_536];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut datagram).await else { continue };
        if traffic.black_hole.get() {
            add(&traffic.swallowed, 1);
            continue;
        }
        let known = flows.borrow().get(&from).cloned();
        let flow = match known {
            Some(flow) => flow,
            None => {
                let Ok(flow) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
                flows.borrow_mut().insert(from, flow.clone());
                let (back, to_agent, traffic, stop) =
                    (flow.clone(), socket.clone(), traffic.clone(), stop.clone());
                spawn(async move {
                    stop.or(answers(back, to_agent, from, traffic)).await;
                })
                .detach();
                flow
            }
        };
        add(&traffic.udp_bytes, n);
        // A centre that is down refuses (ICMP): the agent finds out by itself.
        flow.send_to(&datagram[..n], centre).await.ok();
    }
}

async fn answers(flow: UdpSocket, socket: UdpSocket, agent: SocketAddr, traffic: Rc<Traffic>) {
    let mut datagram = vec![0; 65_536];
    loop {
        let Ok((n, _)) = flow.recv_from(&mut datagram).await else { continue };
        if traffic.black_hole.get() {
            add(&traffic.swallowed, 1);
        } else {
            add(&traffic.udp_bytes, n);
            socket.send_to(&datagram[..n], agent).await.ok();
        }
    }
}

async fn accept(listener: TcpListener, centre: SocketAddr, traffic: Rc<Traffic>) {
    loop {
        let Ok((agent, _)) = listener.accept().await else { continue };
        let traffic = traffic.clone();
        spawn(async move {
            // A centre that is down: the agent's connection closes at once.
            let Ok(centre) = TcpStream::connect(centre).await else { return };
            agent.set_nodelay(true).ok();
            centre.set_nodelay(true).ok();
            traffic.tcp_open.set(traffic.tcp_open.get() + 1);
            copy(agent.clone(), centre.clone(), &traffic).or(copy(centre, agent, &traffic)).await;
            traffic.tcp_open.set(traffic.tcp_open.get() - 1);
        })
        .detach();
    }
}

/// Until either side closes.
async fn copy(mut from: TcpStream, mut to: TcpStream, traffic: &Traffic) {
    let mut chunk = vec![0; 32 * 1024];
    while let Ok(n) = from.read(&mut chunk).await {
        if n == 0 || to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
        add(&traffic.tcp_bytes, n);
    }
}
