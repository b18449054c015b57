#!/usr/bin/env python3
"""Rows of the centre's throughput: 100 devices in batches into each sink; plain QoS 1 clients beside mosquitto.

    bench/macro/ingest.py [--rows 5000] [--only file,log,insert,update,null,plain]

Frames are made before the clock starts and sent over loopback TCP by one other process, which takes part of the two cores: the CPU of
the centre alone is printed beside. An event counts when its frame's PUBACK is back.
"""

import argparse
import pathlib
import sqlite3
import subprocess
import time

from common import CACHE, ROOT, Bench, Centre, free_port, result, wait_for, fsync_ms


def mosquitto(b, port):
    """Mosquitto from Debian, as the tests install it: one anonymous listener, nothing on disk, which is its fastest."""
    script = ROOT / "tests/servers/mosquitto.sh"
    subprocess.run([script, "install"], check=True, stdout=subprocess.DEVNULL)
    (b.dir / "mosquitto.conf").write_text(f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nlog_type error\n")
    p = b.start([script, "run", "mosquitto", "-c", b.dir / "mosquitto.conf"])
    time.sleep(1)
    return p


def bare_sqlite(folder, n, keys, batch):
    """Upserts of random keys in transactions of `batch`, one connection, synchronous=FULL: what SQLite itself can."""
    import random
    rng = random.Random(1)
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16384; CREATE TABLE r(device TEXT, id INTEGER, value REAL, note TEXT, epoch INTEGER, seq INTEGER, PRIMARY KEY(device, id)) WITHOUT ROWID")
    note = "x" * 184
    sql = "INSERT INTO r VALUES('dev-0', ?, ?, ?, 1, 1) ON CONFLICT DO UPDATE SET value=excluded.value, note=excluded.note, epoch=excluded.epoch, seq=excluded.seq"
    start = time.monotonic()
    for _ in range(n // batch):
        rows = [(rng.randrange(keys), 1.0, note) for _ in range(batch)]
        db.execute("BEGIN")
        db.executemany(sql, rows)
        db.execute("COMMIT")
    return n / (time.monotonic() - start)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rows", type=int, default=5000, help="of each device")
    ap.add_argument("--devices", type=int, default=100)
    ap.add_argument("--batch", type=int, default=100)
    ap.add_argument("--plain", type=int, default=200_000)
    ap.add_argument("--only", default="file,log,insert,update,null,plain")
    a = ap.parse_args()
    total = a.rows * a.devices
    for kind in a.only.split(","):
        if kind == "plain":
            continue
        with Bench("ingest") as b:
            b.passwords([f"dev-{i}" for i in range(a.devices)])
            (b.dir / "out").mkdir()
            sink = {"file": f"{{type: file, path: {b.dir}/out/events.ndjson}}", "log": f"{{type: sqlite, mode: log, path: {b.dir}/log.db}}",
                    "null": '{type: "null"}'}.get(kind, f"{{type: sqlite, path: {b.dir}/mirror.db}}")
            centre = Centre(b, sink, plain=True)
            p = centre.start()
            rows = a.rows // 10 if kind == "update" else a.rows
            total = rows * a.devices
            fleet = lambda **more: b.tool("fleet", addr=f"127.0.0.1:{centre.plain}", devices=a.devices, rows=rows, batch=a.batch, **more)
            if kind == "update":
                # The keys that are updated at random.
                fleet(kind="insert")
            cpu, written = p.cpu(), p.written()
            got = fleet(kind={"insert": "insert", "update": "update"}.get(kind, "message"), epoch=2, keys=rows)
            if got["failed"] or got["acked"] != total:
                raise SystemExit(f"{kind}: {got}")
            cpu = p.cpu() - cpu
            each, note = cpu / total * 1e6, ""
            what, goal = {"file": ("`file`", 100_000), "log": ("SQLite append log", 100_000), "insert": ("SQLite mirror, new keys", 100_000),
                          "update": ("SQLite mirror, random updates", None), "null": ("`null`", None)}[kind]
            if kind == "update":
                bare = bare_sqlite(b.dir, total, rows * a.devices, 4000)
                note = f"a bare SQLite loop in transactions of 4,000: {bare:,.0f}/s, ratio {got['rate'] / bare:.2f}; "
            text = f"ingest, {a.devices} devices, frames of {a.batch}, into {what}"
            fs = fsync_ms(b.dir, 50)
            result(text, f"≥ {goal:,} durable events/s" if goal else "reported", f"{got['rate']:,.0f}/s", got["rate"] >= goal if goal else None,
                   f"{note}centre's CPU {each:.2f} µs an event ({cpu / got['seconds'] * 100:.0f} % of a core), {(p.written() - written) / total:.0f} B written an event, frame's PUBACK P95 {got['puback']['p95_ms']} ms, fsync P50/P95 {fs[0]}/{fs[1]} ms, peak {p.rss()['peak'] / 1024:.0f} MiB")
            p.stop()
    if "plain" in a.only:
        with Bench("plain") as b:
            b.passwords([f"dev-{i}" for i in range(20)])
            centre = Centre(b, '{type: "null"}', plain=True)
            p = centre.start()
            port = free_port()
            q = mosquitto(b, port)
            best = {}
            for clients in (1, 20):
                for name, process, addr, more in (("dts", p, centre.plain, {"user": "dev-{n}", "password": "pw"}), ("mosquitto", q, port, {})) * 3:
                    cpu = process.cpu()
                    got = b.tool("publish", addr=f"127.0.0.1:{addr}", n=a.plain // 4, clients=clients, window=20, size=200, **more)
                    if got["failed"]:
                        raise SystemExit(f"{name}: {got}")
                    found = (got["rate"], (process.cpu() - cpu) / got["acked"] * 1e6, got["puback"]["p95_ms"])
                    best[name] = max(best.get(name, (0, 0, 0)), found)
                d, m = best["dts"], best["mosquitto"]
                result(f"single QoS 1 publishes of 200 B, {clients} plain client{'s' if clients > 1 else ''}, sink `null`", "≥ mosquitto 2.0",
                       f"{d[0]:,.0f}/s against {m[0]:,.0f}/s: {d[0] / m[0]:.2f}×", d[0] >= m[0], f"best of 3, in turn; window 20; CPU a message {d[1]:.1f} against {m[1]:.1f} µs; P95 {d[2]} against {m[2]} ms; dts decodes, numbers and hands on each; mosquitto has no subscriber, no persistence")
                best.clear()


main()
