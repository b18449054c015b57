#!/usr/bin/env python3
"""Rows of one agent: start, memory, CPU, a backlog, its drain.

    bench/macro/agent.py [--seconds 30] [--backlog 1000000] [--rate 1000]

The centre writes with its `file` sink (fsync before each acknowledgement). Events are JSON of 200 B whose padding does not compress.
Peaks are the kernel's VmHWM, reset at the start of each phase; `file` are pages of the program itself, which the kernel may take back.
"""

import argparse
import re
import time

from common import Agent, Bench, Centre, busy, result, wait_for


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seconds", type=int, default=30)
    ap.add_argument("--backlog", type=int, default=1_000_000)
    ap.add_argument("--rate", type=int, default=1000)
    ap.add_argument("--only", default="start,steady,backlog")
    a = ap.parse_args()
    with Bench("agent") as b:
        out = b.dir / "out"
        out.mkdir()
        centre = Centre(b, f"{{type: file, path: {out}/events.ndjson}}")
        agent = Agent(b, centre)
        post = lambda **more: b.tool("http", addr=f"127.0.0.1:{agent.http}", size=200, **more)
        first = 0

        def size():
            return sum(p.stat().st_size for p in out.iterdir())

        if "start" in a.only:
            took = []
            for _ in range(7):
                # One event in the buffer that the centre has not seen, then both from nothing.
                agent.start()
                post(n=1, first=first)
                first += 1
                agent.process.stop()
                centre.start()
                had, start = size(), time.monotonic()
                agent.start(wait=False)
                wait_for(lambda: size() > had, 20, "nothing arrives", step=0.001)
                took.append((time.monotonic() - start) * 1e3)
                agent.process.stop()
                centre.stop()
            took.sort()
            result("agent start → a buffered event in the centre's file", "≤ 100 ms", f"{took[3]:.0f} ms (best {took[0]:.0f}, worst {took[-1]:.0f})",
                   took[3] <= 100, "median of 7; exec to the line seen, on loopback, QUIC with mTLS")

        centre.start()
        agent.start()
        p = agent.process
        time.sleep(2)
        idle = p.rss()
        phases = []

        def phase(name, work):
            p.reset_peak()
            cpu, start, written = p.cpu(), time.monotonic(), p.written()
            got = work()
            seconds = time.monotonic() - start
            phases.append({"name": name, "rss": p.rss(), "cpu": p.cpu() - cpu, "seconds": seconds, "written": p.written() - written, "load": got})
            print(f"  {name}: {phases[-1]} {busy()}", flush=True)
            return phases[-1]

        def settled(n, limit=120):
            wait_for(lambda: centre.total("dts_sink_rows_total") >= n, limit, f"only {centre.total('dts_sink_rows_total'):.0f} of {n} arrive", 0.1)

        sent, n = 0, a.rate * a.seconds
        if "steady" in a.only:
            for name, batch, connections in (("posts of 1", 1, 16), ("posts of 10", 10, 4), ("posts of 100", 100, 1)):
                ph = phase(name, lambda: post(n=n, rate=a.rate, batch=batch, connections=connections, first=first))
                first, sent = first + n, sent + n
                settled(sent)
                peak, cpu = ph["rss"]["peak"], ph["cpu"] / ph["seconds"] * 100
                result(f"agent peak RSS, {a.rate:,} events/s over QUIC, {name}", "≤ 8 MB", f"{peak / 1024:.1f} MiB (anon {ph['rss']['anon'] / 1024:.1f}, file {ph['rss']['file'] / 1024:.1f})",
                       peak * 1024 <= 8_000_000, f"idle {idle['now'] / 1024:.1f} MiB; threads {len(p.threads())}")
                result(f"agent CPU at {a.rate:,} events/s, {name}", "≤ 3 % of a core", f"{cpu:.1f} %", cpu <= 3,
                       f"answer P95 {ph['load']['answer']['p95_ms']} ms; rate {ph['load']['rate']:.0f}/s")
        if "backlog" in a.only:
            centre.stop()
            ph = phase("backlog fed", lambda: post(n=a.backlog, batch=100, connections=4, first=first))
            first, sent = first + a.backlog, sent + a.backlog
            feed = ph
            ph = phase("backlog and 1,000/s", lambda: post(n=a.rate * 20, rate=a.rate, batch=10, connections=4, first=first))
            first, sent = first + a.rate * 20, sent + a.rate * 20
            peak = ph["rss"]["peak"]
            result(f"agent peak RSS, the same with {a.backlog:,} events of backlog", "≤ 8 MB", f"{peak / 1024:.1f} MiB (anon {ph['rss']['anon'] / 1024:.1f}, file {ph['rss']['file'] / 1024:.1f})",
                   peak * 1024 <= 8_000_000, f"while the backlog was fed, {feed['load']['rate']:,.0f}/s: {feed['rss']['peak'] / 1024:.1f} MiB, {feed['cpu'] / a.backlog * 1e6:.1f} µs CPU an event")
            # The centre counts from its own start.
            before = sum(b'"payload":{"seq":' in line for line in lines(out))
            centre.start()
            rows = lambda: centre.total("dts_sink_rows_total")
            wait_for(lambda: rows() > 1000, 60, "the drain does not begin", 0.01)
            c0, start = centre.process.cpu(), time.monotonic()
            had = rows()
            ph = phase("drain", lambda: wait_for(lambda: rows() >= sent - before, 300, "the drain does not end", 0.05) and None)
            seconds, moved = time.monotonic() - start, sent - before - had
            rate, c = moved / seconds, centre.process.cpu() - c0
            result("drain of the backlog to the centre's `file` sink", "≥ 150,000 events/s", f"{rate:,.0f}/s", rate >= 150_000,
                   f"{moved:,.0f} rows in {seconds:.1f} s; CPU an event: agent {ph['cpu'] / moved * 1e6:.2f} µs, centre {c / moved * 1e6:.2f} µs; both and nothing else on 2 cores: {2e6 / ((ph['cpu'] + c) / moved * 1e6):,.0f}/s; agent peak {ph['rss']['peak'] / 1024:.1f} MiB")
            time.sleep(3)
        agent.process.stop()
        centre.stop()
        seen = set()
        total = 0
        for line in lines(out):
            # The agent's own status comes along as events.
            if found := re.search(rb'"payload":\{"seq":(\d+)', line):
                total += 1
                seen.add(int(found[1]))
        if seen != set(range(first)):
            raise SystemExit(f"{first} events were answered 202, {len(seen)} distinct arrived")
        print(f"  {first} events answered, all arrived, {total - len(seen)} twice")


def lines(folder):
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as f:
            yield from f


main()
