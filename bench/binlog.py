#!/usr/bin/env python3
"""binlog.py DTS PEERS FILE…: see binlog.sh. Prints a table for each file."""
import json, os, subprocess, sys

dts, bins, files = sys.argv[1], sys.argv[2], sys.argv[3:]
peers = {"dts": [dts]}
program = os.environ.get("DTS")
if program:
    peers["dts binlog dump --count"] = [program, "binlog", "dump", "--count"]
for name, binary, *args in [
    ("mysql_common", "peer-mysql-common", "crc"),
    ("mysql_common, no CRC", "peer-mysql-common", "nocrc"),
    ("connector-rust, no CRC", "peer-connector-rust"),
    ("mysql_cdc, no CRC", "peer-mysql-cdc"),
    ("go-mysql", "peer-go-mysql", "buf"),
    ("limit: bare walk, CRC", "limit-decode", "crc"),
]:
    if os.path.exists(os.path.join(bins, binary)):
        peers[name] = [os.path.join(bins, binary), *args]


def run(cmd, path, out=subprocess.PIPE):
    p = subprocess.Popen([*cmd, path], stdout=out, stderr=subprocess.DEVNULL)
    line = p.stdout.read().decode().strip() if p.stdout else "{}"
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
    here = dict(peers)
    if "zstd" in os.path.basename(path):
        here["limit: libzstd alone"] = [dts, "libzstd"]
    if program:
        here["dts binlog dump --format json"] = [program, "binlog", "dump", "--format", "json"]
    for _ in range(int(os.environ.get("ROUNDS", "3"))):
        for name, cmd in here.items():
            got = run(cmd, path, *([subprocess.DEVNULL] if "json" in cmd else []))
            if got and (name not in best or got[0] < best[name][0]):
                best[name] = got
    print("\n%s, %d bytes\n\n| peer | MB per CPU s | RSS MB | rows | checksum |\n|---|---|---|---|---|" % (os.path.basename(path), size))
    for name in here:
        if name in best:
            cpu, rss, said = best[name]
            rows, checksum = said.get("rows"), said.get("checksum")
            if "json" in here[name] and "dts" in best:
                rows = best["dts"][2]["rows"]
                checksum = "%.3f CPU s a million rows" % (cpu / rows * 1e6)
            print("| %s | %.0f | %.0f | %s | %s |" % (name, size / 1e6 / cpu, rss, rows, checksum))
        else:
            print("| %s | fails | | | |" % name)
