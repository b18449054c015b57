#!/usr/bin/env python3
"""Rows of bytes written to disk for each byte of event payload.

    bench/macro/disk.py [--events 200000] [--slow-seconds 600]

/proc/PID/io `write_bytes` of the agent over its whole life: appends, acknowledgements, deletions, checkpoints, its own state. The
payload is 200 B of JSON that does not compress. The slow rows run side by side, one event a second in real time; what happens at the
start (making the file) is taken off by beginning to count after the first minute's tenth.
"""

import argparse
import threading
import time

from common import Agent, Bench, Centre, busy, disk_sectors, result, wait_for

SIZE = 200


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--events", type=int, default=200_000)
    ap.add_argument("--rate", type=int, default=10_000)
    ap.add_argument("--slow-seconds", type=int, default=600)
    ap.add_argument("--only", default="batches,slow")
    a = ap.parse_args()
    with Bench("disk") as b:
        centre = Centre(b, '{type: "null"}')
        centre.start()
        if "batches" in a.only:
            for name, lane, goal in (("class fsync", "class: fsync", 3.5), ("class ram, online", "class: ram", 0.1)):
                agent = Agent(b, centre, name=f"batch-{'ram' if goal < 1 else 'fsync'}", lane=lane)
                p = agent.start()
                time.sleep(2)
                before, rows, block = p.written(), centre.total("dts_sink_rows_total"), disk_sectors(b.dir)
                got = b.tool("http", addr=f"127.0.0.1:{agent.http}", n=a.events, batch=100, rate=a.rate, connections=4, size=SIZE)
                wait_for(lambda: centre.total("dts_sink_rows_total") >= rows + a.events, 120, "not all arrive", 0.1)
                # Deletions of what was acknowledged last.
                time.sleep(7)
                factor = (p.written() - before) / (a.events * SIZE)
                block = (disk_sectors(b.dir) - block) * 512 / (a.events * SIZE) if block is not None else None
                seen = f"the block device, everybody's: {block:.2f}×" if block is not None else ""
                result(f"bytes written a payload byte, batches of 100, {name}", f"≤ {goal}×", f"{factor:.2f}×", factor <= goal, f"{seen}; {got['rate']:,.0f} events/s")
                p.stop()
        if "slow" in a.only:
            measured = {}
            # A link that is away: the data must go to disk, and is sent and deleted at the end.
            away = Centre(b, '{type: "null"}', name="away")
            lead = max(10, a.slow_seconds // 10)

            def one(key, lane, where):
                agent = Agent(b, where, name=key, lane=lane)
                p = agent.start()
                post = lambda n, first: b.tool("http", addr=f"127.0.0.1:{agent.http}", n=n, first=first, rate=1, connections=1, size=SIZE, limit=n + 60)
                post(lead, 0)
                before = p.written()
                post(a.slow_seconds, lead)
                if where is away:
                    waiting.wait()
                    time.sleep(15)
                measured[key] = (p.written() - before) / (a.slow_seconds * SIZE)
                p.stop()

            rows = (("singly", "class: fsync", 70, "fsync, each singly"),
                    ("delayed-10", "class: delayed, commit_interval: 10s", 11, "delayed, 10 s"),
                    ("delayed-60", "class: delayed, commit_interval: 60s", 4, "delayed, 60 s"))
            both = [(f"{key}-{where}", lane, goal, f"{name}, link {where}", centre if where == "up" else away) for where in ("up", "down") for key, lane, goal, name in rows]
            waiting = threading.Barrier(len(rows) + 1)
            threads = [threading.Thread(target=one, args=(key, lane, where)) for key, lane, _, _, where in both]
            for t in threads:
                t.start()
            waiting.wait()
            away.start()
            for t in threads:
                t.join()
            year = 365 * 86_400 * SIZE / 1e9
            for key, _, goal, name, _ in both:
                factor = measured[key]
                result(f"GB a year, one 200 B event a second, class {name}", f"≤ {goal}× ({goal * year:.0f} GB)", f"{factor:.1f}× ({factor * year:.0f} GB)", factor <= goal,
                       f"{a.slow_seconds} s in real time, deletions included")


main()
