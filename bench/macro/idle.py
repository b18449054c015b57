#!/usr/bin/env python3
"""Rows of many devices: idle QUIC sessions in one centre, and all of them coming back at once.

    bench/macro/idle.py [--n 10000] [--storms 2]

Each device has a certificate of its own (mTLS) and an MQTT session. The other end runs on the same two cores and does as much TLS as
the centre does, so that times are worse than a fleet would see; the centre's own CPU is counted apart.
"""

import argparse
import json
import resource
import time

from common import Bench, Centre, percentiles, result


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--n", type=int, default=10_000)
    ap.add_argument("--probes", type=int, default=20)
    ap.add_argument("--storms", type=int, default=2)
    a = ap.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    with Bench("idle") as b:
        centre = Centre(b, '{type: "null"}')
        p = centre.start()
        fleet = b.tool_start("idle", addr=f"127.0.0.1:{centre.udp}", n=a.n, storms=a.storms, ca=b.dir / "ca.pem", ca_key=b.dir / "ca.key")

        def phase():
            line = fleet.child.stdout.readline()
            if not line:
                raise SystemExit("the fleet ended early")
            return json.loads(line)

        def go():
            fleet.child.stdin.write("\n")
            fleet.child.stdin.flush()

        phase()
        empty, cpu = p.rss(), p.cpu()
        go()
        phase()
        full, cpu = p.rss(), p.cpu() - cpu
        each = (full["now"] - empty["now"]) / a.n
        result(f"{a.n:,} idle QUIC sessions in one process, MQTT and mTLS included", "≤ 40 KB each", f"{each * 1.024:.1f} KB each", each * 1024 <= 40_000,
               f"RSS {empty['now'] / 1024:.0f} → {full['now'] / 1024:.0f} MiB, peak {full['peak'] / 1024:.0f}; opened at 300/s, {cpu / a.n * 1e3:.2f} ms of the centre's CPU each")
        cpu = p.cpu()
        time.sleep(10)
        print(f"  idle: {(p.cpu() - cpu) / 10 * 100:.1f} % of a core for {a.n} sessions")
        # Those that are in, in a process of their own.
        inside = b.tool_start("idle", addr=f"127.0.0.1:{centre.udp}", probes=a.probes, out=b.dir / "probes", ca=b.dir / "ca.pem", ca_key=b.dir / "ca.key")
        inside.child.stdout.readline()
        since = time.time()
        time.sleep(6)

        def inside_since(start):
            time.sleep(0.5)
            waits = [int(wait) / 1e6 for at, wait in (line.split() for line in open(b.dir / "probes")) if int(at) >= start * 1e9]
            return percentiles(waits)

        quiet = inside_since(since)
        go()
        for _ in range(a.storms):
            phase()
            cpu, start, now = p.cpu(), time.monotonic(), time.time()
            go()
            got = phase()
            cpu, seconds, during = p.cpu() - cpu, time.monotonic() - start, inside_since(now)
            holds = got["sessions"] == a.n and during["p95"] <= 2 * quiet["p95"]
            result(f"reconnect storm, {a.n:,} devices, {'resumed' if got['resumed'] else 'full'} handshakes", "all back; those within keep latency ≤ 2×",
                   f"{got['sessions']:,} back in {seconds:.0f} s; P50/P95/P99 of those within {quiet['p50']:.1f}/{quiet['p95']:.1f}/{quiet['p99']:.1f} → {during['p50']:.1f}/{during['p95']:.1f}/{during['p99']:.1f} ms", holds,
                   f"centre's CPU {cpu / a.n * 1e3:.2f} ms a device that came back, refused attempts included; attempts {got['tries'] / a.n:.1f} a device; handshake P50/P95 {got['handshake']['p50_ms']}/{got['handshake']['p95_ms']} ms; peak {p.rss()['peak'] / 1024:.0f} MiB")
            go()


main()
