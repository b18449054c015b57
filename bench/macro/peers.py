#!/usr/bin/env python3
"""The peers beside the agent: mosquitto as a bridge with persistence, telegraf, dts; the same load in one run.

    bench/macro/peers.py [--backlog 200000] [--peers dts,mosquitto,telegraf]

1,000 messages/s of 200 B for 20 s; an outage with a backlog; the far side back. Two more rounds for SIGKILL with the backlog
acknowledged. dts takes MQTT by no listener of its own on the edge, so it gets the messages by HTTP, in posts of 1 and unbatched.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from common import CACHE, ROOT, Agent, Bench, Centre, Process, free_port, result, wait_for

TELEGRAF = "v1.37.2"


def telegraf():
    """Built from the Go proxy with the two plugins that are used; None where there is no Go."""
    program = pathlib.Path(os.environ.get("TELEGRAF") or shutil.which("telegraf") or CACHE / "bench/bin/telegraf")
    if not program.exists() and shutil.which("go"):
        tags = "custom,inputs.socket_listener,outputs.mqtt,parsers.influx,serializers.influx"
        env = os.environ | {"GOBIN": str(CACHE / "bench/bin"), "CGO_ENABLED": "0"}
        subprocess.run(["go", "install", "-trimpath", "-ldflags", "-s -w", "-tags", tags, f"github.com/influxdata/telegraf/cmd/telegraf@{TELEGRAF}"], env=env, check=False)
    return program if program.exists() else None


class Mosquitto:
    name = "mosquitto bridge"

    def __init__(self, b, upstream):
        self.b, self.port, self.data = b, free_port(), b.dir / "mosquitto"
        self.data.mkdir()
        script = ROOT / "tests/servers/mosquitto.sh"
        subprocess.run([script, "install"], check=True, stdout=subprocess.DEVNULL)
        (b.dir / "mosquitto.conf").write_text(f"""user root
listener {self.port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {self.data}/
autosave_interval 10
max_queued_messages 0
max_inflight_messages 0
log_type error
connection up
address 127.0.0.1:{upstream}
topic # out 1
cleansession false
try_private false
notifications false
bridge_attempt_unsubscribe false
restart_timeout 1
""")
        self.argv = [script, "run", "mosquitto", "-c", b.dir / "mosquitto.conf"]

    def load(self, n, first, rate):
        return self.b.tool("publish", addr=f"127.0.0.1:{self.port}", n=n, first=first, rate=rate, window=64)


class Telegraf:
    name = "telegraf"

    def __init__(self, b, upstream):
        self.b, self.port, self.data = b, free_port(), b.dir / "telegraf"
        self.data.mkdir()
        (b.dir / "telegraf.conf").write_text(f"""[agent]
  interval = "1s"
  flush_interval = "1s"
  metric_batch_size = 1000
  metric_buffer_limit = 2000000
  buffer_strategy = "disk_write_through"
  buffer_directory = "{self.data}"
  omit_hostname = true
  quiet = true
[[inputs.socket_listener]]
  service_address = "tcp://127.0.0.1:{self.port}"
  data_format = "influx"
[[outputs.mqtt]]
  servers = ["tcp://127.0.0.1:{upstream}"]
  topic = "t/dev"
  qos = 1
  data_format = "influx"
""")
        self.argv = [telegraf(), "--config", b.dir / "telegraf.conf"]

    def load(self, n, first, rate):
        return self.b.tool("lines", addr=f"127.0.0.1:{self.port}", n=n, first=first, rate=rate)


def wait_port(port):
    import socket

    def listens():
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False
    wait_for(listens, 60, "the peer does not listen")


def peer(kind, a):
    with Bench("peer") as b:
        out = b.dir / "sink"
        if kind == "dts":
            centre = Centre(b, f"{{type: sqlite, path: {b.dir}/mirror.db}}")
            centre.start()
            agent = Agent(b, centre)
            agent.start()
            name, data = "dts (http, class fsync, QUIC)", b.dir / "dev"
            load = lambda n, first, rate: b.tool("http", addr=f"127.0.0.1:{agent.http}", n=n, first=first, rate=rate, connections=16)
            base = [0]

            def arrived():
                import sqlite3
                with sqlite3.connect(f"file:{b.dir}/mirror.db?mode=ro", uri=True, timeout=30) as db:
                    return db.execute("SELECT count(*) FROM messages WHERE topic='bench'").fetchone()[0]
            down, up = centre.stop, centre.start
            start = lambda: agent.start()
            process = lambda: agent.process
        else:
            port = free_port()
            sink = b.tool_start("sink", addr=f"127.0.0.1:{port}", stdout=open(out, "w"))
            time.sleep(0.5)
            it = (Mosquitto if kind == "mosquitto" else Telegraf)(b, port)
            name, data, load = it.name, it.data, it.load
            held = []

            def start():
                held.append(b.start(it.argv))
                wait_port(it.port)
            start()
            process = lambda: held[-1]

            def arrived():
                found = re.findall(r'"unique":(\d+)', out.read_text()[-2000:])
                return int(found[-1]) if found else 0
            down, up = lambda: sink.send(signal.SIGUSR1), lambda: sink.send(signal.SIGUSR2)
        time.sleep(3)
        p, n = process(), a.rate * a.seconds
        cpu, written, began = p.cpu(), p.written(), time.monotonic()
        load(n, 0, a.rate)
        cpu = (p.cpu() - cpu) / (time.monotonic() - began) * 100
        time.sleep(7)
        steady = {"cpu": cpu, "rss": p.rss()["peak"] / 1024, "written": (p.written() - written) / n, "arrived": arrived()}
        down()
        time.sleep(1)
        had = arrived()
        cpu, written = p.cpu(), p.written()
        fed = load(a.backlog, n, 0)
        time.sleep(12)
        outage = {"rss": p.rss()["peak"] / 1024, "written": (p.written() - written) / a.backlog, "fed": fed["rate"], "cpu": (p.cpu() - cpu) / a.backlog * 1e6}
        files = sum(f.stat().st_size for f in data.rglob("*") if f.is_file())
        up()
        want, begun, last, still = n + a.backlog, None, -1, 0
        while (now := arrived()) < want and still < 200:
            begun = begun or (time.monotonic() if now > had else None)
            still, last = (still + 1 if now == last else 0), now
            time.sleep(0.1)
        seconds = max(time.monotonic() - (begun or time.monotonic()) - still * 0.1, 0.1)
        now = arrived()
        p.stop()
        # SIGKILL with a backlog that was acknowledged.
        start()
        time.sleep(3)
        down()
        time.sleep(1)
        load(a.kill, want, 0)
        process().stop(signal.SIGKILL)
        had = arrived()
        lost = "not tried: it does not start while its upstream is away"
        if kind != "telegraf":
            start()
            up()
            end = time.monotonic() + 30
            while arrived() < had + a.kill and time.monotonic() < end:
                time.sleep(0.2)
            lost = f"{had + a.kill - arrived():,} of {a.kill:,} lost"
        result(f"beside: {name}", "", f"CPU {steady['cpu']:.1f} % at {a.rate:,}/s; peak RSS {steady['rss']:.1f} MiB, with {a.backlog:,} of backlog {outage['rss']:.1f} MiB", None,
               f"written a message {steady['written']:.0f} B online, {outage['written']:.0f} B in the outage; buffer {files / 1e6:.0f} MB; fed {outage['fed']:,.0f}/s; drained {(now - (steady['arrived'])) / seconds:,.0f}/s, {want - now} missing; SIGKILL with an acknowledged backlog: {lost}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--backlog", type=int, default=200_000)
    ap.add_argument("--kill", type=int, default=50_000)
    ap.add_argument("--rate", type=int, default=1000)
    ap.add_argument("--seconds", type=int, default=20)
    ap.add_argument("--peers", default="dts,mosquitto,telegraf")
    a = ap.parse_args()
    for kind in a.peers.split(","):
        if kind == "telegraf" and not telegraf():
            print("  telegraf: not here, and no Go to build it with; skipped")
            continue
        peer(kind, a)


main()
