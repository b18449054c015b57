#!/usr/bin/env python3
"""binlog.py DTS PEERS FILE…: see binlog.sh. Prints a table for each file."""
import json, os, subprocess, sys

dts, bins, files = sys.argv[1], sys.argv[2], sys.argv[3:]
peers = {"dts": [dts]}
for name, binary, *args in [
    ("mysql_common", "peer-mysql-common", "crc"),
    ("mysql_common, no CRC", "peer-mysql-common", "nocrc"),
    ("connector-rust, no CRC", "peer-connector-rust"),
    ("mysql_cdc, no CRC", "peer-mysql-cdc"),
    ("limit: bare walk, CRC", "limit-decode", "crc"),
]:
    if os.path.exists(os.path.join(bins, binary)):
        peers[name] = [os.path.join(bins, binary), *args]


def run(cmd, path):
    p = subprocess.Popen([*cmd, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    line = p.stdout.read().decode().strip()
    _, status, used = os.wait4(p.pid, 0)
    p.returncode = status
    said = json.loads(line.splitlines()[-1]) if line.startswith("{") else {}
    if status or said.get("error"):
        return None
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said


for path in files:
    size = os.path.getsize(path)
    with open(path, "rb") as f:  # into the page cache
        while f.read(1 << 22):
            pass
    best = {}
    for _ in range(int(os.environ.get("ROUNDS", "3"))):
        for name, cmd in peers.items():
            got = run(cmd, path)
            if got and (name not in best or got[0] < best[name][0]):
                best[name] = got
    print("\n%s, %d bytes\n\n| peer | MB per CPU s | RSS MB | rows | checksum |\n|---|---|---|---|---|" % (os.path.basename(path), size))
    for name in peers:
        if name in best:
            cpu, rss, said = best[name]
            print("| %s | %.0f | %.0f | %s | %s |" % (name, size / 1e6 / cpu, rss, said.get("rows"), said.get("checksum")))
        else:
            print("| %s | fails | | | |" % name)
