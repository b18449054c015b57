"""What the rows share: programs, processes and what /proc says of them, certificates, configs, namespaces, results.

Environment: BENCH_AGENT and BENCH_CENTRE (binaries; default: what `bench/run.sh` builds), BENCH_TOOL (bench/tools' program),
BENCH_OUT (a file that results are appended to, one JSON object a line).
"""

import base64
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("DTS_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dts")
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
AGENT = os.environ.get("BENCH_AGENT") or str(TARGET / "edge/dts")
CENTRE = os.environ.get("BENCH_CENTRE") or str(TARGET / "release/dts")


def tool():
    given = os.environ.get("BENCH_TOOL")
    if given:
        return given
    target = CACHE / "bench/target"
    subprocess.run(["cargo", "build", "--release", "--quiet", "--manifest-path", str(ROOT / "bench/tools/Cargo.toml"),
                    "--target-dir", str(target)], check=True)
    return str(target / "release/dts-bench")


TOOL = None


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A program of ours, with what /proc says of it."""

    def __init__(self, argv, namespace=None, stdin=None, stdout=None, log=None, env=None):
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        self.child = subprocess.Popen([*prefix, *argv], stdin=stdin, stdout=stdout or log, stderr=log, env=env, text=True)
        self.pid = self.child.pid
        if namespace:
            # `ip` has become the program when its name is no longer `ip`.
            for _ in range(500):
                if self.read("comm").strip() != "ip":
                    break
                time.sleep(0.002)

    def read(self, name):
        return pathlib.Path(f"/proc/{self.pid}/{name}").read_text()

    def alive(self):
        return self.child.poll() is None

    def cpu(self):
        """Seconds on a CPU, of the threads that live: nanoseconds of the scheduler, since ticks misjudge what sleeps much."""
        spent = [int(p.joinpath("schedstat").read_text().split()[0]) for p in pathlib.Path(f"/proc/{self.pid}/task").iterdir()]
        return sum(spent) / 1e9

    def kib(self, key):
        return int(re.search(rf"^{key}:\s+(\d+) kB", self.read("status"), re.M)[1])

    def rss(self):
        return {k: self.kib(v) for k, v in (("peak", "VmHWM"), ("now", "VmRSS"), ("anon", "RssAnon"), ("file", "RssFile"))}

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def written(self):
        """Bytes that it caused to be sent to the disk, what was taken back before included."""
        return int(re.search(r"^write_bytes: (\d+)", self.read("io"), re.M)[1])

    def threads(self):
        return sorted(p.joinpath("comm").read_text().strip() for p in pathlib.Path(f"/proc/{self.pid}/task").iterdir())

    def send(self, number):
        self.child.send_signal(number)

    def stop(self, how=signal.SIGTERM, wait=20):
        if self.alive():
            self.child.send_signal(how)
            try:
                self.child.wait(wait)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Bench:
    """A folder, and processes that end with it."""

    def __init__(self, name):
        global TOOL
        TOOL = TOOL or tool()
        base = CACHE / "bench/run"
        base.mkdir(parents=True, exist_ok=True)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
        self.processes, self.namespaces = [], []
        # In memory: what a program says on standard error would count as written to the disk.
        shm = pathlib.Path("/dev/shm")
        self.log_path = (shm if shm.is_dir() else self.dir) / f"dts-bench-{os.getpid()}.log"
        self.log = open(self.log_path, "ab")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for p in reversed(self.processes):
            with contextlib.suppress(Exception):
                p.stop(wait=10)
        for n in self.namespaces:
            subprocess.run(["ip", "netns", "del", n], check=False)
        if kind is not None:
            sys.stderr.write("".join(open(self.log_path, errors="replace").readlines()[-30:]))
        self.log_path.unlink(missing_ok=True)
        if not os.environ.get("BENCH_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, argv, **more):
        more.setdefault("log", self.log)
        p = Process([str(a) for a in argv], **more)
        self.processes.append(p)
        return p

    def run(self, argv, limit=600, namespace=None):
        """Runs to its end; its last line as JSON."""
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        done = subprocess.run([*prefix, *map(str, argv)], stdout=subprocess.PIPE, stderr=self.log, timeout=limit, text=True, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def tool(self, command, namespace=None, limit=600, **options):
        return self.run([TOOL, command, *arguments(options)], limit, namespace)

    def tool_start(self, command, namespace=None, **options):
        stdout = options.pop("stdout", subprocess.PIPE)
        return self.start([TOOL, command, *arguments(options)], namespace=namespace, stdout=stdout, stdin=subprocess.PIPE)

    def pki(self, address="127.0.0.1"):
        d = self.dir
        if (d / "ca.pem").exists():
            return
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]

        def make(name, *more):
            subprocess.run(["openssl", "req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{d}/{name}.key", "-out", f"{d}/{name}.pem",
                            *more], check=True, capture_output=True)
        make("ca")
        leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", f"{d}/ca.pem", "-CAkey", f"{d}/ca.key"]
        make("server", "-addext", f"subjectAltName=DNS:localhost,IP:127.0.0.1,IP:{address}", *leaf)
        make("dev", "-addext", "extendedKeyUsage=clientAuth", *leaf)

    def namespace(self, name):
        name = f"dtsb{os.getpid()}{name}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.namespaces.append(name)
        subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        return name

    def passwords(self, names, password="pw"):
        """As `mosquitto_passwd` writes them, with few iterations: logins are not what is measured."""
        lines = []
        for i, name in enumerate(names):
            salt = hashlib.sha256(str(i).encode()).digest()[:12]
            found = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
            lines.append(f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(found).decode()}\n")
        path = self.dir / "passwords"
        path.write_text("".join(lines))
        return path


def arguments(options):
    return [word for k, v in options.items() for word in (f"--{k.replace('_', '-')}", str(v))]


class Centre:
    """A centre with one sink; its ports stay over restarts."""

    def __init__(self, bench, sink, address="127.0.0.1", namespace=None, quic=True, plain=False, extra="", name="centre"):
        self.bench, self.address, self.namespace, self.name = bench, address, namespace, name
        bench.pki(address)
        self.udp, self.tls, self.plain, self.http = (free_port(socket.SOCK_DGRAM), free_port(), free_port(), free_port())
        self.sink, self.quic, self.with_plain, self.extra = sink, quic, plain, extra
        self.process = None

    def write(self):
        d = self.bench.dir
        lines = [
            f"device: {{state_dir: {d}/{self.name}}}",
            f"http: {{listen: '127.0.0.1:{self.http}'}}",
            "source:",
            "  type: devices",
            f"  quic: {f'{self.address}:{self.udp}' if self.quic else 'null'}",
            f"  tls_tcp: {self.address}:{self.tls}",
            f"  tls: {{cert_file: {d}/server.pem, key_file: {d}/server.key, client_ca_file: {d}/ca.pem}}",
        ]
        if self.with_plain:
            lines += [f"  plain_tcp: 127.0.0.1:{self.plain}", f"  password_file: {d}/passwords"]
        lines += ["  " + line for line in self.extra.splitlines()]
        lines += [f"sink: {self.sink}"]
        (d / f"{self.name}.yaml").write_text("\n".join(lines) + "\n")

    def start(self):
        self.write()
        self.process = self.bench.start([CENTRE, "run", "--config", self.bench.dir / f"{self.name}.yaml"], namespace=self.namespace)
        wait_for(lambda: self.metrics() is not None, 20, "the centre does not start")
        return self.process

    def stop(self):
        self.process.stop()

    def metrics(self):
        """Text of /metrics."""
        try:
            if self.namespace:
                got = subprocess.run(["ip", "netns", "exec", self.namespace, sys.executable, "-c",
                                      f"import urllib.request;print(urllib.request.urlopen('http://127.0.0.1:{self.http}/metrics',timeout=5).read().decode())"],
                                     capture_output=True, text=True, timeout=20, check=False)
                return got.stdout if got.returncode == 0 else None
            return urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=5).read().decode()
        except OSError:
            return None

    def total(self, name):
        """Sum of a counter over its labels; 0 if it is not there."""
        text = self.metrics() or ""
        return sum(float(m[1]) for m in re.finditer(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", text, re.M))


class Agent:
    def __init__(self, bench, centre, name="dev", lane="class: fsync", source=None, sink="", namespace=None, address="127.0.0.1"):
        self.bench, self.centre, self.name, self.lane, self.sink = bench, centre, name, lane, sink
        self.namespace, self.address, self.http = namespace, address, free_port()
        self.source = source or f"{{type: http, listen: '127.0.0.1:{self.http}'}}"
        self.process = None

    def start(self, wait=True):
        d, c = self.bench.dir, self.centre
        path = d / f"agent-{self.name}.yaml"
        path.write_text(f"""device: {{name: {self.name}, state_dir: {d}/{self.name}}}
source: {self.source}
buffer: {{max_bytes: 4GiB, lanes: {{default: {{{self.lane}}}}}}}
sink:
  type: centre
  address: {self.address}
  quic_port: {c.udp}
  tcp_port: {c.tls}
  backoff_max: 1s
  tls: {{ca_file: {d}/ca.pem, cert_file: {d}/{self.name}.pem, key_file: {d}/{self.name}.key, server_name: localhost}}
""" + "".join(f"  {line}\n" for line in self.sink.splitlines()))
        for end in ("pem", "key"):
            if not (d / f"{self.name}.{end}").exists():
                certificate(d, self.name)
        self.process = self.bench.start([AGENT, "run", "--config", path], namespace=self.namespace)
        if wait:
            wait_for(self.listens, 20, "the agent does not start")
        return self.process

    def listens(self):
        if self.namespace:
            # The port as the kernel lists it there: 127.0.0.1 in hexadecimal.
            return f"0100007F:{self.http:04X}" in self.process.read("net/tcp")
        try:
            socket.create_connection(("127.0.0.1", self.http)).close()
            return True
        except OSError:
            return False


def certificate(d, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                    f"/CN={name}", "-addext", "extendedKeyUsage=clientAuth", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-CA", f"{d}/ca.pem", "-CAkey", f"{d}/ca.key", "-keyout", f"{d}/{name}.key", "-out", f"{d}/{name}.pem"],
                   check=True, capture_output=True)


def wait_for(what, limit, why, step=0.02):
    end = time.monotonic() + limit
    while not (found := what()):
        if time.monotonic() > end:
            raise SystemExit(why)
        time.sleep(step)
    return found


def fsync_ms(folder, n=100):
    """P50 and P95 of one page written and synced: what the disk itself takes."""
    path, took = pathlib.Path(folder) / "fsync", []
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(n):
        os.write(fd, os.urandom(4096))
        start = time.monotonic()
        os.fdatasync(fd)
        took.append((time.monotonic() - start) * 1e3)
    os.close(fd)
    path.unlink()
    took.sort()
    return round(took[n // 2], 2), round(took[n * 95 // 100], 2)


def disk_sectors(folder):
    """Sectors that the block device below the folder has written so far, by anybody; None if it cannot be told."""
    device = os.stat(folder).st_dev
    try:
        return int(pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[6])
    except OSError:
        return None


def busy():
    """How loaded the machine is beside us, for the results."""
    return f"load {os.getloadavg()[0]:.1f}"


def result(row, goal, measured, holds, note=""):
    """One row of the table. `holds`: True, False, or None for what is only reported."""
    line = {"row": row, "goal": goal, "measured": measured, "holds": holds, "note": note, "busy": busy(),
            "script": pathlib.Path(sys.argv[0]).name, "at": datetime.datetime.now(datetime.UTC).strftime("%H:%M")}
    print(f"{row} | {goal} | {measured} | {'' if holds is None else 'yes' if holds else 'NO'} | {note}", flush=True)
    if out := os.environ.get("BENCH_OUT"):
        with open(out, "a") as f:
            f.write(json.dumps(line) + "\n")


def percentiles(values):
    values = sorted(values)
    at = lambda p: values[min(len(values) - 1, len(values) * p // 100)]
    return {"n": len(values), "p50": at(50), "p95": at(95), "p99": at(99), "max": values[-1]}
