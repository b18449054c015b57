#!/usr/bin/env python3
"""Peak memory of an agent at work, beside a centre, both on this machine.

    bench/agent_rss.py --agent target/edge/dts --centre target/release/dts

Needs openssl (a throw-away CA) and Linux (/proc). Phases, each with its own peak:

  start     the agent's own start, connected
  single    1,000 posts/s of one event of 200 B each, on keep-alive connections, over QUIC
  batches   1,000 events/s in NDJSON posts of 100
  backlog   the centre is away, --backlog events arrive as fast as the agent takes them
  drain     the centre is back
  tcp       as `single`, with QUIC switched off on the centre: TLS over TCP

A phase's peak is the kernel's VmHWM, reset at its start. It counts the pages of the program's file
that were touched; they are shown apart (`file`), since the kernel can take them back at any time.
At the end the centre's rows are counted against the events that were answered 202.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def pki(d):
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    openssl("req", "-x509", *key, "-subj", "/CN=bench CA", "-keyout", f"{d}/ca.key", "-out", f"{d}/ca.pem")
    for name, extra in (("server", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("dev", "extendedKeyUsage=clientAuth")):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-addext", extra, "-addext", "basicConstraints=critical,CA:FALSE",
                "-CA", f"{d}/ca.pem", "-CAkey", f"{d}/ca.key", "-keyout", f"{d}/{name}.key", "-out", f"{d}/{name}.pem")


class Process:
    def __init__(self, binary, config, log):
        self.binary, self.config, self.log, self.child = binary, config, log, None

    def start(self):
        self.child = subprocess.Popen([self.binary, "run", "--config", self.config], stdout=self.log, stderr=self.log)

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            self.child.wait(20)
        self.child = None

    def proc(self, name):
        return pathlib.Path(f"/proc/{self.child.pid}/{name}")

    def fields(self, name):
        out = {}
        for line in self.proc(name).read_text().splitlines():
            parts = line.replace(":", " ").split()
            if len(parts) == 3 and parts[2] == "kB":
                out[parts[0]] = int(parts[1])
        return out

    def reset_peak(self):
        self.proc("clear_refs").write_text("5")

    def memory(self):
        s, m = self.fields("status"), self.fields("smaps_rollup")
        threads = [p.joinpath("comm").read_text().strip() for p in self.proc("task").iterdir()]
        return {"peak_kib": s["VmHWM"], "now_kib": s["VmRSS"], "anon_kib": s["RssAnon"], "file_kib": s["RssFile"],
                "private_dirty_kib": m["Private_Dirty"], "threads": sorted(threads), "cpu_s": self.cpu()}

    def cpu(self):
        f = self.proc("stat").read_text().rsplit(")", 1)[1].split()
        return round((int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK"), 2)


class Load:
    """Posts from `connections` threads, `rate` a second in all, until told to stop."""

    def __init__(self, port, size):
        self.port, self.size, self.lock, self.n, self.done, self.late = port, size, threading.Lock(), 0, 0, 0

    def event(self, n):
        head = f'{{"n":{n},"t":21.5,"fill":"'
        return head + "x" * max(0, self.size - len(head) - 2) + '"}'

    def run(self, events, batch, rate, connections):
        start, quota = time.monotonic(), {"left": events}

        def post():
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = sock.makefile("rb")
            while True:
                with self.lock:
                    if quota["left"] <= 0:
                        break
                    quota["left"] -= batch
                    index = events - quota["left"] - batch
                    first, self.n = self.n, self.n + batch
                if rate:
                    wait = start + index / rate - time.monotonic()
                    if wait > 0:
                        time.sleep(wait)
                body = "\n".join(self.event(first + i) for i in range(batch)).encode()
                kind = "application/json" if batch == 1 else "application/x-ndjson"
                request = (f"POST /bench HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n").encode() + body
                while True:
                    sock.sendall(request)
                    status = int(answers.readline().split()[1])
                    length = 0
                    while (line := answers.readline()) not in (b"\r\n", b""):
                        name, _, value = line.partition(b":")
                        if name.lower() == b"content-length":
                            length = int(value)
                    text = answers.read(length)
                    if status == 202:
                        break
                    if status != 503:
                        raise SystemExit(f"answer {status}: {text!r}")
                    time.sleep(0.1)
                with self.lock:
                    self.done += batch
            sock.close()

        threads = [threading.Thread(target=post) for _ in range(connections)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return events / (time.monotonic() - start)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--agent", required=True)
    ap.add_argument("--centre", required=True)
    ap.add_argument("--seconds", type=int, default=30)
    ap.add_argument("--rate", type=int, default=1000)
    ap.add_argument("--size", type=int, default=200)
    ap.add_argument("--connections", type=int, default=16)
    ap.add_argument("--backlog", type=int, default=120_000)
    ap.add_argument("--keep", action="store_true", help="leave the folder behind")
    ap.add_argument("--env", action="append", default=[], help="NAME=VALUE for the agent")
    ap.add_argument("--json", action="store_true")
    ap.add_argument("--smaps", help="write the agent's /proc/PID/smaps at the end of each phase into this folder")
    a = ap.parse_args()
    for pair in a.env:
        os.environ.update([pair.split("=", 1)])

    d = pathlib.Path(tempfile.mkdtemp(prefix="dts-rss-"))
    pki(d)
    udp, tcp, http = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)

    def centre_config(quic):
        (d / "centre.yaml").write_text(f"""
device: {{state_dir: {d}/centre}}
source:
  type: devices
  quic: {f'127.0.0.1:{udp}' if quic else 'null'}
  tls_tcp: 127.0.0.1:{tcp}
  tls: {{cert_file: {d}/server.pem, key_file: {d}/server.key, client_ca_file: {d}/ca.pem}}
sink: {{type: sqlite, path: {d}/mirror.db}}
""")

    centre_config(True)
    (d / "agent.yaml").write_text(f"""
device: {{name: dev, state_dir: {d}/dev}}
source: {{type: http, listen: '127.0.0.1:{http}'}}
sink:
  type: centre
  address: 127.0.0.1
  quic_port: {udp}
  tcp_port: {tcp}
  backoff_max: 1s
  tls: {{ca_file: {d}/ca.pem, cert_file: {d}/dev.pem, key_file: {d}/dev.key, server_name: localhost}}
""")
    log = open(d / "log", "ab")
    centre = Process(a.centre, str(d / "centre.yaml"), log)
    agent = Process(a.agent, str(d / "agent.yaml"), log)
    load = Load(http, a.size)
    results = []

    def rows():
        try:
            with sqlite3.connect(f"file:{d}/mirror.db?mode=ro", uri=True, timeout=30) as db:
                return db.execute("SELECT count(*) FROM messages WHERE topic='bench'").fetchone()[0]
        except sqlite3.Error:
            return 0

    def settle(limit=120):
        end = time.monotonic() + limit
        while time.monotonic() < end and rows() < load.done:
            time.sleep(0.5)
        return rows()

    def phase(name, work):
        agent.reset_peak()
        before, started = agent.cpu(), time.monotonic()
        rate = work()
        m = agent.memory()
        m.update(phase=name, seconds=round(time.monotonic() - started, 1), events_per_s=round(rate or 0), cpu_s=round(m["cpu_s"] - before, 2))
        if a.smaps:
            pathlib.Path(a.smaps, name).write_text(agent.proc("smaps").read_text())
        results.append(m)
        print(f"{name:8} peak {m['peak_kib']:6} KiB  now {m['now_kib']:6}  anon {m['anon_kib']:6}  file {m['file_kib']:6}"
              f"  {m['events_per_s']:6} events/s  {m['seconds']:5} s  cpu {m['cpu_s']:5} s  threads {' '.join(m['threads'])}", flush=True)

    def connected():
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", http)).close()
                return time.sleep(1.5)
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"the agent does not start; see {d}/log")

    try:
        centre.start()
        time.sleep(1)
        agent.start()
        phase("start", connected)

        def one(batch):
            return lambda: load.run(a.rate * a.seconds, batch, a.rate, a.connections)

        phase("single", one(1))
        settle()
        phase("batches", one(100))
        settle()
        centre.stop()
        phase("backlog", lambda: load.run(a.backlog, 100, 0, 4))
        centre.start()
        phase("drain", lambda: settle() and None)
        centre.stop()
        centre_config(False)
        centre.start()
        time.sleep(5)
        phase("tcp", one(1))
        got = settle()
        print(f"events answered 202: {load.done}, rows at the centre: {got}")
        if a.json:
            print(json.dumps(results))
        if got != load.done:
            sys.exit("rows are missing, or there are too many")
    finally:
        agent.stop()
        centre.stop()
        if not a.keep:
            shutil.rmtree(d)


main()
