#!/usr/bin/env python3
"""Rows of bytes on the wire, IP headers included, counted by the router: what idling costs, and what a connection costs.

    bench/macro/wire.py [--seconds 300]

Idle means an agent with nothing to send. A day is the measured stretch scaled up: keep-alives, pings and questions for the time come at
fixed intervals, and the connection's own start is not in the stretch.
"""

import argparse
import json
import signal
import time

from common import Agent, Bench, Centre, result


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seconds", type=int, default=300)
    a = ap.parse_args()
    with Bench("wire") as b:
        near, far = b.namespace("a"), b.namespace("b")
        router = b.tool_start("router", a=near, b=far, delay_ms=5)
        router.child.stdout.readline()
        centre = Centre(b, '{type: "null"}', address="10.77.0.2", namespace=far)
        centre.start()

        def counts():
            router.send(signal.SIGUSR1)
            got = json.loads(router.child.stdout.readline())
            return [got[way][what] for what in ("bytes", "packets") for way in ("a_to_b", "b_to_a")]

        def stretch(work):
            before = counts()
            work()
            return [now - was for now, was in zip(counts(), before)]

        for transport in ("quic", "tls"):
            name = f"dev-{transport}"
            agent = Agent(b, centre, name=name, namespace=near, address="10.77.0.2", sink=f"transports: {transport}")

            def connect():
                agent.start()
                time.sleep(4)

            for which in ("first", "again, after a restart"):
                up, down, *packets = stretch(connect)
                result(f"bytes of a connection, {transport}, mTLS, {which}, MQTT included", "reported", f"{up:,} up, {down:,} down", None,
                       f"{packets[0]} and {packets[1]} packets, the first 4 s, one question for the time included")
                if which != "first":
                    up, down, *packets = stretch(lambda: time.sleep(a.seconds))
                    day = 86_400 / a.seconds
                    result(f"bytes of an idle day, {transport}, link always", "reported", f"{(up + down) * day / 1e3:,.0f} kB", None,
                           f"{up:,} up and {down:,} down, {sum(packets)} packets in {a.seconds} s, scaled")
                agent.process.stop()
        agent = Agent(b, centre, name="dev-burst", namespace=near, address="10.77.0.2", sink="transports: quic\nlink: {every: 20s}")
        agent.start()
        time.sleep(30)
        before = centre.total("dts_connects_total")
        up, down, *packets = stretch(lambda: time.sleep(a.seconds))
        times = centre.total("dts_connects_total") - before
        each = (up + down) / max(times, 1)
        result("bytes of an idle day, quic, link burst every 15 min", "reported", f"{each * 96 / 1e3:,.0f} kB", None,
               f"{each:,.0f} B a burst over {times:.0f} bursts that came every 20 s here; 96 a day; a handshake each ({sum(packets) / max(times, 1):.0f} packets)")


main()
