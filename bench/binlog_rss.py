#!/usr/bin/env python3
"""binlog_rss.py DTS [GIB]: peak memory of `dts binlog dump` on one transaction of GIB (2) GiB whose rows have 1 MiB.

The binlog is made here, without a server, in a temporary folder, and removed: as one event a row (`rows`), as one event of all
rows (`event`), and, where the program `zstd` is there, compressed (`payload`). Prints a table; fails above 32 MB."""
import os, shutil, struct, subprocess, sys, tempfile, time, zlib

DTS, GIB = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2
ROWS, ROW, LIMIT_MB = int(GIB * 1024), 1 << 20, 32
# Fixed parts by type, as MySQL 9 lists them (types 1 to 42).
POST_HEADERS = bytes.fromhex("000d0008000000000400040000006300041a08000000000000020000000a0a0a2a2a001234000a280000")
QUERY, ROTATE, FORMAT, XID, TABLE_MAP, WRITE_ROWS, ANONYMOUS_GTID, PAYLOAD = 2, 4, 15, 16, 19, 30, 34, 40
TEXT = bytes(33 + i * 7 % 90 for i in range(ROW - 13 - 4))  # quotes and backslashes among it


class Binlog:
    """Writes events; `checksums` is off inside a compressed transaction."""

    def __init__(self, out, checksums):
        self.out, self.checksums, self.at = out, checksums, 0

    def event(self, kind, size, parts):
        size += 19 + 4 * self.checksums
        self.at += size
        head = struct.pack("<IBIIIH", 1_750_000_000, kind, 1, size, self.at & 0xFFFFFFFF if self.checksums else 0, 0)
        crc = 0
        for part in (head, *parts) if isinstance(parts, tuple) else chain(head, parts):
            crc = zlib.crc32(part, crc)
            self.out.write(part)
        if self.checksums:
            self.out.write(struct.pack("<I", crc))

    def begin(self):
        statement = struct.pack("<IIBHH", 1, 0, 1, 0, 0) + b"d\0BEGIN"
        self.event(QUERY, len(statement), (statement,))

    def table(self):
        # BIGINT and LONGTEXT, utf8mb4.
        body = struct.pack("<IHH", 7, 0, 1) + b"\x01d\0\x01t\0\x02\x08\xfc\x01\x04\x02" + b"\x01\x01\x00\x02\x01\x2d"
        self.event(TABLE_MAP, len(body), (body,))

    def rows(self, first, count, last):
        head = struct.pack("<IHHH", 7, 0, int(last), 2) + b"\x02\xff"

        def parts():
            yield head
            for i in range(first, first + count):
                yield struct.pack("<BqI", 0, i, len(TEXT))
                yield TEXT

        self.event(WRITE_ROWS, len(head) + count * (13 + len(TEXT)), parts())

    def transaction(self, one_event):
        self.begin()
        self.table()
        if one_event:
            self.rows(0, ROWS, True)
        else:
            for i in range(ROWS):
                self.rows(i, 1, i + 1 == ROWS)
        self.event(XID, 8, (struct.pack("<Q", 1),))


def chain(first, rest):
    yield first
    yield from rest


def packed(n):
    return bytes([n]) if n < 251 else b"\xfe" + struct.pack("<Q", n)


def make(path, shape):
    with open(path, "wb", buffering=1 << 20) as out:
        out.write(b"\xfebin")
        log = Binlog(out, True)
        log.at = 4
        body = struct.pack("<H50sIB", 4, b"9.7.4", 1_750_000_000, 19) + POST_HEADERS + b"\x01"
        log.event(FORMAT, len(body), (body,))
        gtid = struct.pack("<B16sqBqq", 0, b"\0" * 16, 0, 2, 0, 1)
        log.event(ANONYMOUS_GTID, len(gtid), (gtid,))
        if shape != "payload":
            return log.transaction(shape == "event")
        inner = path + ".zst"
        with open(inner, "wb") as packed_file:
            zstd = subprocess.Popen(["zstd", "-3", "-c", "-q"], stdin=subprocess.PIPE, stdout=packed_file)
            nested = Binlog(zstd.stdin, False)
            nested.transaction(False)
            zstd.stdin.close()
            zstd.wait()
        size = os.path.getsize(inner)
        head = b"".join(packed(k) + packed(len(packed(v))) + packed(v) for k, v in ((2, 0), (3, nested.at), (1, size))) + b"\0"
        with open(inner, "rb") as packed_file:
            log.event(PAYLOAD, len(head) + size, (head, packed_file.read()))
        os.remove(inner)


def high_water(pid):
    try:
        with open("/proc/%d/status" % pid) as status:
            return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def run(*args):
    """CPU seconds and peak memory; what wait4 says would count what this script had when it forked."""
    child = subprocess.Popen([DTS, "binlog", "dump", *args], stdout=subprocess.DEVNULL)
    peak = 0
    while True:
        peak = max(peak, high_water(child.pid))
        done, status, used = os.wait4(child.pid, os.WNOHANG)
        if done:
            child.returncode = status
            return status, used.ru_utime + used.ru_stime, peak
        time.sleep(0.002)


folder = tempfile.mkdtemp(prefix="dts-binlog-rss-")
worst = 0
try:
    print("| %g GiB in one transaction | output | CPU s | peak MB |\n|---|---|---|---|" % GIB)
    for shape in ("rows", "event", *(["payload"] if shutil.which("zstd") else [])):
        path = os.path.join(folder, shape)
        make(path, shape)
        for name, args in (("--count", ["--count"]), ("--format json", ["--format", "json"])):
            status, cpu, peak = run(*args, path)
            print("| %s | %s | %.2f | %.1f |%s" % (shape, name, cpu, peak, " FAILED" if status else ""), flush=True)
            worst = max(worst, peak if status == 0 else 1e9)
        os.remove(path)
finally:
    shutil.rmtree(folder)
sys.exit(worst > LIMIT_MB)
