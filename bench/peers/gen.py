#!/usr/bin/env python3
"""gen.py --server DIR --out DIR [NAME…]: see gen.sh. The rows follow from --seed; times of events do not."""
import argparse, hashlib, json, os, random, shutil, subprocess, sys, time

ap = argparse.ArgumentParser()
ap.add_argument("--server", required=True, help="folder that tests/servers/mysql.sh started it in")
ap.add_argument("--out", required=True)
ap.add_argument("--seed", type=int, default=42)
ap.add_argument("--scale", type=float, default=1.0)
ap.add_argument("names", nargs="*")
A = ap.parse_args()

script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/servers/mysql.sh")
client = subprocess.Popen(
    [script, "client", "mysql97", A.server, "-N", "-n", "--default-character-set=utf8mb4"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
END = "-- end --"


def run(sql):
    client.stdin.write(sql + ";\n")


def one(sql):
    """The first line that it shows, as fields."""
    run(sql)
    run("SELECT '%s'" % END)
    client.stdin.flush()
    lines = []
    for line in client.stdout:
        if line.rstrip("\n") == END:
            return lines[0]
        lines.append(line.rstrip("\n").split("\t"))
    sys.exit("the client ended")


class Count:
    def __init__(self):
        self.i = self.u = self.d = self.txn = 0

    def as_dict(self):
        return dict(transactions=self.txn, inserts=self.i, updates=self.u, deletes=self.d,
                    rows=self.i + self.u + self.d, images=self.i + 2 * self.u + self.d)


class Batch:
    """joins whole transactions into packets of about 256 KB"""

    def __init__(self):
        self.parts, self.size = [], 0

    def add(self, sql):
        self.parts.append(sql)
        self.size += len(sql)
        if self.size > 1 << 18:
            self.flush()

    def flush(self):
        if self.parts:
            run(";".join(self.parts))
        self.parts, self.size = [], 0


def digits(r, groups):
    return "-".join("%011d" % r.randrange(10**11) for _ in range(groups))


class Oltp:
    ddl = """CREATE TABLE bench.sb (id INT NOT NULL PRIMARY KEY, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '',
             pad CHAR(60) NOT NULL DEFAULT '', KEY (k)) DEFAULT CHARSET=utf8mb4"""

    def __init__(self, r):
        self.r, self.next, self.alive = r, 1, []
        self.c = [digits(r, 10) for _ in range(8000)]
        self.pad = [digits(r, 5) for _ in range(8000)]

    def ins(self, n):
        r, v = self.r, []
        for _ in range(n):
            v.append("(%d,%d,'%s','%s')" % (self.next, r.randrange(1 << 31), r.choice(self.c), r.choice(self.pad)))
            self.alive.append(self.next)
            self.next += 1
        return "INSERT INTO bench.sb VALUES " + ",".join(v)

    def upd(self):
        return "UPDATE bench.sb SET k=k^%d,c='%s' WHERE id=%d" % (self.r.randrange(1, 1 << 20), self.r.choice(self.c), self.r.choice(self.alive))

    def dele(self):
        a = self.alive
        j = self.r.randrange(len(a))
        a[j], a[-1] = a[-1], a[j]
        return "DELETE FROM bench.sb WHERE id=%d" % a.pop()


def gen_oltp(r, n, txns=62000):
    o, b, first = Oltp(r), Batch(), True
    for _ in range(int(txns * A.scale)):
        q = ["BEGIN", o.ins(x := r.randint(4, 8))]
        n.i += x
        for _ in range(x := r.randint(4, 8)):
            q.append(o.upd())
        n.u += x
        for _ in range(x := r.randint(2, 4)):
            q.append(o.dele())
        n.d += x
        n.txn += 1
        b.add(";".join(q + ["COMMIT"]))
    b.flush()


def gen_small(r, n, txns=190000):
    o, b = Oltp(r), Batch()
    for j in range(int(txns * A.scale)):
        x = r.random()
        if x < 0.5 or len(o.alive) < 10:
            b.add(o.ins(1)); n.i += 1
        elif x < 0.85:
            b.add(o.upd()); n.u += 1
        else:
            b.add(o.dele()); n.d += 1
        n.txn += 1
    b.flush()


NARROW = "CREATE TABLE bench.narrow (id BIGINT NOT NULL PRIMARY KEY, a INT, b TINYINT)"


def gen_narrow(r, n, cycles=900):
    blocks, base = [], 1 << 40
    for _ in range(int(cycles * A.scale)):
        for _ in range(5):
            x = r.randrange(1 << 32)
            run("INSERT INTO bench.narrow SELECT %d+n, (n*2654435761+%d)%%4294967296-2147483648, IF(n%%97=0,NULL,(n*7+%d)%%256-128) FROM bench.seq WHERE n<1000" % (base, x, x))
            blocks.append(base)
            base += 1000
            n.i += 1000
        o = r.choice(blocks)
        run("UPDATE bench.narrow SET a=-1-a WHERE id>=%d AND id<%d" % (o, o + 1000))
        n.u += 1000
        o = blocks.pop(r.randrange(len(blocks)))
        run("DELETE FROM bench.narrow WHERE id>=%d AND id<%d" % (o, o + 1000))
        n.d += 1000
        n.txn += 7


WIDE = """CREATE TABLE bench.wide (id BIGINT NOT NULL PRIMARY KEY,
 ti TINYINT, tu TINYINT UNSIGNED, si SMALLINT, su SMALLINT UNSIGNED, mi MEDIUMINT, mu MEDIUMINT UNSIGNED,
 ii INT, iu INT UNSIGNED, bi BIGINT, bu BIGINT UNSIGNED,
 d1 DECIMAL(10,2), d2 DECIMAL(20,6), d3 DECIMAL(38,10), d4 DECIMAL(5,0), fl FLOAT, do1 DOUBLE, do2 DOUBLE,
 dt6 DATETIME(6), dt0 DATETIME, dt3 DATETIME(3), ts3 TIMESTAMP(3) NULL, ts0 TIMESTAMP NULL, da DATE, t6 TIME(6), t0 TIME, ye YEAR,
 v1 VARCHAR(50), v2 VARCHAR(255), v3 VARCHAR(1000), ch CHAR(20), vb VARBINARY(64), bn BINARY(16), tx TEXT, js JSON, bl BLOB,
 en ENUM('red','green','blue','black'), se SET('a','b','c','d','e','f','g','h','i','j'), b1 BIT(1), b20 BIT(20)) DEFAULT CHARSET=utf8mb4"""


class Wide:
    def __init__(self, r):
        self.r, self.next, self.alive = r, 1, []
        words = ["lorem", "ipsum", "Grün", "žluť", "日本語", "кошка", "naïve", "😀", "delta", "epsilon", "zeta", "theta", "über", "señor"]
        self.txt = {n: [self.cut(words, n) for _ in range(800)] for n in (12, 20, 60, 120, 150)}
        self.blob = [r.randbytes(r.randint(20, 120)).hex() for _ in range(800)]
        self.js = [json.dumps({"id": r.randrange(1 << 40), "name": r.choice(words), "price": r.random() * 1000, "ok": r.random() < .5,
                               "tags": [r.choice(words) for _ in range(r.randint(0, 5))], "n": {"x": r.randrange(70000), "y": None}},
                              ensure_ascii=False) for _ in range(800)]

    def cut(self, words, n):
        s = ""
        while len(s) < n:
            s += self.r.choice(words) + " "
        return s[: self.r.randint(n // 2, n)].strip()

    def t(self, n):
        return "'" + self.r.choice(self.txt[n]) + "'"

    def dt(self, lo=1001, hi=9998, f=0):
        r = self.r
        s = "%04d-%02d-%02d %02d:%02d:%02d" % (r.randint(lo, hi), r.randint(1, 12), r.randint(1, 28), r.randint(0, 23), r.randint(0, 59), r.randint(0, 59))
        return "'" + s + (".%0*d" % (f, r.randrange(10**f)) if f else "") + "'"

    def tm(self, f=0):
        r = self.r
        s = "%s%02d:%02d:%02d" % (r.choice(["", "-"]), r.randint(0, 838 - 1), r.randint(0, 59), r.randint(0, 59))
        return "'" + s + (".%0*d" % (f, r.randrange(10**f)) if f else "") + "'"

    def dec(self, p, s):
        x = self.r.randrange(10**p)
        return "%s%d.%0*d" % (self.r.choice(["", "-"]), x // 10**s, s, x % 10**s) if s else str(x)

    def row(self):
        r = self.r
        v = []
        for b in (8, 8, 16, 16, 24, 24, 32, 32, 64, 64):
            x = r.getrandbits(b)
            v.append(str(x - (1 << (b - 1)) if len(v) % 2 == 0 else x))
        v += [self.dec(10, 2), self.dec(20, 6), self.dec(38, 10), self.dec(5, 0), "%.4g" % (r.random() * 1000), repr(r.gauss(0, 1e6)), repr(r.random())]
        v += [self.dt(f=6), self.dt(), self.dt(f=3), self.dt(1971, 2037, 3), self.dt(1971, 2037), "'%04d-%02d-%02d'" % (r.randint(1000, 9999), r.randint(1, 12), r.randint(1, 28)),
              self.tm(6), self.tm(), str(r.randint(1901, 2155))]
        v += [self.t(20), self.t(60), self.t(120), self.t(12), "x'%s'" % r.choice(self.blob)[:r.randrange(0, 100) & ~1], "x'%032x'" % r.getrandbits(128), self.t(150),
              "'" + r.choice(self.js) + "'", "x'%s'" % r.choice(self.blob), str(r.randint(1, 4)), str(r.randrange(1 << 10)), "%d" % r.randrange(2), str(r.randrange(1 << 20))]
        for _ in range(3):
            v[r.randrange(len(v))] = "NULL"
        return v

    def ins(self, n):
        q = []
        for _ in range(n):
            q.append("(%d,%s)" % (self.next, ",".join(self.row())))
            self.alive.append(self.next)
            self.next += 1
        return "INSERT INTO bench.wide VALUES " + ",".join(q)

    def upd(self):
        return "UPDATE bench.wide SET bu=%d,ti=%d,v1=%s,dt6=%s,d2=%s WHERE id=%d" % (
            self.r.getrandbits(64), self.r.randint(-128, 127), self.t(20), self.dt(f=6), self.dec(20, 6), self.r.choice(self.alive))

    dele_sql = "DELETE FROM bench.wide WHERE id=%d"

    def dele(self):
        a = self.alive
        j = self.r.randrange(len(a))
        a[j], a[-1] = a[-1], a[j]
        return self.dele_sql % a.pop()


def gen_wide(r, n, txns=14400):
    o, b = Wide(r), Batch()
    for _ in range(int(txns * A.scale)):
        q = ["BEGIN", o.ins(x := r.randint(4, 12))]
        n.i += x
        for _ in range(x := r.randint(2, 6)):
            q.append(o.upd())
        n.u += x
        for _ in range(x := r.randint(1, 2)):
            q.append(o.dele())
        n.d += x
        n.txn += 1
        b.add(";".join(q + ["COMMIT"]))
    b.flush()


SETS = {
    "oltp": (Oltp.ddl, gen_oltp, False),
    "wide": (WIDE, gen_wide, False),
    "narrow": (NARROW, gen_narrow, False),
    "zstd": (Oltp.ddl, gen_oltp, True),
    "small-txn": (Oltp.ddl, gen_small, False),
}

os.makedirs(A.out, exist_ok=True)
idx_path = os.path.join(A.out, "index.json")
index = json.load(open(idx_path)) if os.path.exists(idx_path) else {"files": {}}
index["server"] = one("SELECT VERSION()")[0]
index["row_metadata"] = one("SELECT @@binlog_row_metadata")[0]
run("SET SESSION sql_mode='NO_ENGINE_SUBSTITUTION,STRICT_TRANS_TABLES', SESSION time_zone='+00:00'")
for name in A.names or list(SETS):
    ddl, fn, comp = SETS[name]
    run("DROP DATABASE IF EXISTS bench; CREATE DATABASE bench CHARACTER SET utf8mb4; CREATE TABLE bench.seq (n INT PRIMARY KEY)")
    run("INSERT INTO bench.seq VALUES " + ",".join("(%d)" % i for i in range(1000)))
    run(ddl)
    run("SET SESSION binlog_transaction_compression=%s" % ("ON" if comp else "OFF"))
    run("FLUSH BINARY LOGS")
    start = one("SHOW BINARY LOG STATUS")[0]
    n, t = Count(), time.time()
    fn(random.Random("%d" % A.seed), n)
    if one("SHOW BINARY LOG STATUS")[0] != start:
        sys.exit("the log rotated in between: raise max_binlog_size or lower --scale")
    run("FLUSH BINARY LOGS")
    # Once it answers, the file is closed.
    current = one("SHOW BINARY LOG STATUS")[0]
    dst = os.path.join(A.out, name + ".binlog")
    shutil.copyfile(os.path.join(A.server, "data", start), dst)
    run("PURGE BINARY LOGS TO '%s'" % current)
    h = hashlib.sha256()
    with open(dst, "rb") as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    index["files"][name] = dict(file=name + ".binlog", bytes=os.path.getsize(dst), sha256=h.hexdigest(), compressed=comp, seed=A.seed, scale=A.scale,
                                columns=int(one("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'bench' AND table_name <> 'seq'")[0]), **n.as_dict())
    print(name, "%.1f s" % (time.time() - t), index["files"][name], flush=True)
    json.dump(index, open(idx_path, "w"), indent=1)
client.stdin.close()
sys.exit(client.wait())
