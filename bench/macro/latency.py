#!/usr/bin/env python3
"""Rows of latency through a network of the project's own: two namespaces, a router that delays and drops IP packets by seed.

    bench/macro/latency.py [--seconds 20] [--loss 0,1,5,10] [--delay-ms 20]

Needs root (namespaces, TUN). From the 202 of the agent's `http` input (class fsync, linger 5 ms) to the row being visible to a reader
of the centre's SQLite mirror, which SQLite allows only after its log was synced. Both stamps are of one clock.
"""

import argparse
import json
import time

from common import Agent, Bench, Centre, fsync_ms, percentiles, result


def measure(loss, delay, transport, seconds, rate, batch, seed):
    with Bench("latency") as b:
        near, far = b.namespace("a"), b.namespace("b")
        router = b.tool_start("router", a=near, b=far, delay_ms=delay, loss=loss, seed=seed)
        router.child.stdout.readline()
        mirror = b.dir / "mirror.db"
        centre = Centre(b, f"{{type: sqlite, path: {mirror}}}", address="10.77.0.2", namespace=far)
        centre.start()
        agent = Agent(b, centre, namespace=near, address="10.77.0.2", sink=f"transports: {transport}")
        p = agent.start()
        time.sleep(4)
        disk = fsync_ms(b.dir, 50)
        n = int(rate * seconds)
        watch = b.tool_start("watch", db=mirror, n=n, out=b.dir / "seen", limit=seconds + 60)
        cpu = p.cpu()
        got = b.tool("http", namespace=near, addr=f"127.0.0.1:{agent.http}", n=n, rate=rate, batch=batch, connections=16 if batch == 1 else 4, size=200, acks=b.dir / "acks")
        cpu = p.cpu() - cpu
        found = json.loads(watch.child.stdout.readline() or "{}")
        router.stop()
        counts = json.loads(router.child.stdout.read().strip().splitlines()[-1])
        read = lambda name: dict(map(int, line.split()) for line in open(b.dir / name) if line.strip())
        acked, seen = read("acks"), read("seen")
        missing = len(acked.keys() - seen.keys())
        if missing or len(seen) != n:
            raise SystemExit(f"{transport} at {loss} %: {missing} of {n} did not arrive; {found} {got}")
        # A row can be at the centre before its own 202 came through: that is a wait of nothing.
        waits = percentiles([max(0, seen[s] - acked[s]) / 1e6 for s in acked])
        return {"waits": waits, "disk": disk, "answer": got["answer"], "rate": got["rate"], "wire": counts, "cpu": cpu / seconds * 100}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seconds", type=int, default=20)
    ap.add_argument("--rate", type=int, default=1000)
    ap.add_argument("--batch", type=int, default=1)
    ap.add_argument("--delay-ms", type=float, default=20)
    ap.add_argument("--loss", default="0,1,5,10")
    ap.add_argument("--seeds", type=int, default=1)
    a = ap.parse_args()
    rtt = 2 * a.delay_ms
    for loss in a.loss.split(","):
        found = {}
        for transport in ("quic", "tls"):
            runs = [measure(float(loss), a.delay_ms, transport, a.seconds, a.rate, a.batch, seed) for seed in range(1, a.seeds + 1)]
            runs.sort(key=lambda r: r["waits"]["p99"])
            found[transport] = r = runs[len(runs) // 2]
            w = r["waits"]
            goal, holds = "reported", None
            if loss == "0" and transport == "quic":
                goal, holds = f"P95 ≤ RTT + 15 = {rtt + 15:.0f} ms", w["p95"] <= rtt + 15
            elif loss == "5" and transport == "tls":
                goal = "QUIC's P99 ≤ 0.7 × TCP's"
                holds = found["quic"]["waits"]["p99"] <= 0.7 * w["p99"]
            ratio = f"; QUIC's P99 is {found['quic']['waits']['p99'] / w['p99']:.2f} × TCP's" if transport == "tls" else ""
            wire = sum(r["wire"][way]["bytes"] for way in r["wire"])
            result(f"commit → durable, {a.rate:,} events/s, {a.delay_ms:.0f} ms each way, {loss} % loss, {transport}", goal,
                   f"P50 {w['p50']:.1f}, P95 {w['p95']:.1f}, P99 {w['p99']:.1f}, max {w['max']:.0f} ms{ratio}", holds,
                   f"fsync P50/P95 {r['disk'][0]}/{r['disk'][1]} ms; 202 P95 {r['answer']['p95_ms']} ms; {r['rate']:.0f} events/s; {wire / (a.rate * a.seconds):.0f} B on the wire an event; agent CPU {r['cpu']:.1f} %")


main()
