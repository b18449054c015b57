#!/usr/bin/env python3
"""gen.py CLIENT…: asks running servers for their character sets and writes `tables.bin`, `places.rs` and `collations.rs` beside itself.

Each CLIENT is the command line of a `mysql` that reads SQL from standard input, for example
"tests/servers/mysql.sh client mysql97 DIR". The first is believed; the others must agree with it in every character that
both know, and add collations. tables.bin: see `table.rs`, which reads it.
"""
import pathlib, shlex, subprocess, sys

HERE = pathlib.Path(__file__).parent
NONE = 0xFFFF
UNICODE = {"binary", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32"}
SETUP = "create database if not exists gen; create table if not exists gen.d(n int primary key); insert ignore into gen.d values "


def ask(client, sql):
    command = shlex.split(client) + ["-N", "--default-character-set=utf8mb4"]
    run = subprocess.run(command, input=sql.encode(), capture_output=True)
    if run.returncode:
        sys.exit(run.stderr.decode())
    return [line.split("\t") for line in run.stdout.decode().splitlines()]


def character(code, answer):
    """What the server made of the bytes `code`, if it is one character and not its way to say that there is none."""
    try:
        text = bytes.fromhex(answer).decode()
    except ValueError:  # NULL, or a lone surrogate
        return None
    bad = len(text) != 1 or text == "\ufffd" or (text == "?" and code != 0x3F)
    return None if bad else ord(text)


def characters(client, charset, prefix, columns):
    """Code -> character for all sequences of `prefix` and as many bytes as there are columns."""
    names = "abcd"[:columns]
    code = "+".join("%s.n*%d" % (n, 256 ** (columns - 1 - i)) for i, n in enumerate(names))
    chars = ",".join(["unhex('%s')" % prefix] * bool(prefix) + ["char(%s.n)" % n for n in names])
    sql = "use gen; select %s, hex(convert(convert(concat(%s) using %s) using utf8mb4)) from %s" % (
        code, chars, charset, ", ".join("d " + n for n in names))
    found = ((int(code), character(int(code), answer)) for code, answer in ask(client, sql))
    return {code: char for code, char in found if char is not None}


def read(client, charset, width):
    single = characters(client, charset, "", 1)
    double = characters(client, charset, "", 2) if width > 1 else {}
    double = {code: char for code, char in double.items() if code >> 8 not in single}
    triple = characters(client, charset, "8F", 2) if charset in ("ujis", "eucjpms") else {}
    return single, double, triple


def gb18030_ranges(client):
    """The four-byte characters as runs: (number of the first one, how many, its code point)."""
    runs = []
    for lead in [0x81, 0x82, 0x83, 0x84] + list(range(0x90, 0xE4)):
        sql = """use gen; select a.n, b.n, c.n, hex(convert(convert(concat(char(%d),char(a.n),char(b.n),char(c.n)) using gb18030) using utf8mb4))
            from d a, d b, d c where a.n between 48 and 57 and b.n between 129 and 254 and c.n between 48 and 57 order by 1, 2, 3""" % lead
        for a, b, c, answer in ask(client, sql):
            char = character(0, answer)
            if char is None:
                continue
            number = (((lead - 0x81) * 10 + int(a) - 48) * 126 + int(b) - 129) * 10 + int(c) - 48
            if runs and runs[-1][0] + runs[-1][1] == number and runs[-1][2] + runs[-1][1] == char:
                runs[-1][1] += 1
            else:
                runs.append([number, 1, char])
    return runs


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def pack(cells, base):
    """cells and base: lists of the same length, NONE where there is no character."""
    kinds = {"none": 0, "base": 1, "run": 2, "plain": 3}
    out, at, plain = bytearray(), 0, []

    def flush():
        if plain:
            out.extend(varint(len(plain) << 2 | kinds["plain"]))
            for cell in plain:
                out.extend(cell.to_bytes(2, "little"))
            plain.clear()

    def length(test):
        n = 0
        while at + n < len(cells) and test(at + n):
            n += 1
        return n

    while at < len(cells):
        none = length(lambda i: cells[i] == NONE)
        same = length(lambda i: cells[i] == base[i])
        run = length(lambda i: cells[at] != NONE and cells[i] == cells[at] + i - at)
        best = max(none, same, run)
        if best == run and run < 3 or best < 2:
            plain.append(cells[at])
            at += 1
            continue
        flush()
        kind = "base" if same == best else "none" if none == best else "run"
        out.extend(varint(best << 2 | kinds[kind]))
        if kind == "run":
            out.extend(cells[at].to_bytes(2, "little"))
        at += best
    flush()
    return bytes(out)


def sjis_of_euc(code):
    row, cell = (code >> 8) - 0xA1, (code & 255) - 0xA1
    lead = 0x81 + row // 2 if row < 62 else 0xC1 + row // 2
    trail = (0x40 + cell + (cell >= 63)) if row % 2 == 0 else 0x9F + cell
    return lead << 8 | trail


def grid(lead0, lead1, trail0, trail1):
    return [lead << 8 | trail for lead in range(lead0, lead1 + 1) for trail in range(trail0, trail1 + 1)]


# The shape of each table of two bytes, and what predicts it.
GRIDS = {
    "sjis": (0x81, 0xFC, 0x40, 0xFC, None),
    "cp932": (0x81, 0xFC, 0x40, 0xFC, ("sjis", 1, None)),
    "ujis": (0xA1, 0xFE, 0xA1, 0xFE, ("sjis", 1, sjis_of_euc)),
    "eucjpms": (0xA1, 0xFE, 0xA1, 0xFE, ("cp932", 1, sjis_of_euc)),
    "gbk": (0x81, 0xFE, 0x40, 0xFE, None),
    "gb2312": (0xA1, 0xFE, 0xA1, 0xFE, ("gbk", 1, None)),
    "gb18030": (0x81, 0xFE, 0x40, 0xFE, ("gbk", 1, None)),
    "big5": (0xA1, 0xF9, 0x40, 0xFE, None),
    "euckr": (0x81, 0xFE, 0x41, 0xFE, None),
}


def main():
    clients = sys.argv[1:] or sys.exit(__doc__)
    sets, charsets, collations = {}, {}, {}
    for client in clients:
        ask(client, SETUP + ",".join("(%d)" % n for n in range(256)))
        version = ask(client, "select version()")[0][0]
        for name, width in ask(client, "select character_set_name, maxlen from information_schema.character_sets"):
            name = {"utf8": "utf8mb3"}.get(name, name)
            charsets.setdefault(name, int(width))
            if name in UNICODE:
                continue
            found = read(client, name, int(width))
            if sets.setdefault(name, found) != found:
                sys.exit("%s differs in %s" % (version, name))
        where = "information_schema.collation_character_set_applicability where id is not null"
        columns = ask(client, "select count(*) from information_schema.columns where table_schema = 'information_schema'"
                      " and lower(table_name) = 'collation_character_set_applicability' and lower(column_name) = 'id'")
        if columns[0][0] == "0":
            where = "information_schema.collations where id is not null"
        for number, name in ask(client, "select id, character_set_name from " + where):
            name = {"utf8": "utf8mb3"}.get(name, name)
            if collations.setdefault(int(number), name) != name:
                sys.exit("%s: collation %s is of %s" % (version, number, name))
        print(version, len(charsets), "character sets,", len(collations), "collations so far")

    blob, places = bytearray(), []

    def add(name, cells, base):
        data = pack(cells, base)
        places.append("/// %d cells.\npub(super) const %s: Range<usize> = %d..%d;\n" % (len(cells), name.upper(), len(blob), len(blob) + len(data)))
        blob.extend(data)

    for name in sorted(sets):
        single, double, triple = sets[name]
        same = all(single.get(n) == n for n in range(128))
        assert same or name in ("ascii", "swe7"), name
        if name == "ascii":
            continue
        half = list(range(256))
        base = [NONE] * 256 if double else half
        add(name + "_1", [single.get(n, NONE) for n in half], half)
        if double:
            l0, l1, t0, t1, predicted = GRIDS[name]
            codes = grid(l0, l1, t0, t1)
            kana = set(range(0x8EA1, 0x8EE0)) if triple else set()
            assert not set(double) - set(codes) - kana, name
            assert all(double[code] == 0xFF61 + code - 0x8EA1 for code in kana), name
            base = [NONE] * len(codes)
            if predicted:
                table, f = sets[predicted[0]][predicted[1]], predicted[2] or (lambda code: code)
                base = [table.get(f(code), NONE) for code in codes]
            add(name + "_2", [double.get(code, NONE) for code in codes], base)
        if triple:
            codes = grid(0xA1, 0xFE, 0xA1, 0xFE)
            table = sets["ujis"][2] if name == "eucjpms" else {}
            add(name + "_3", [triple.get(code, NONE) for code in codes], [table.get(code, NONE) for code in codes])
    runs = gb18030_ranges(clients[0])
    data = b"".join(varint(n) for first, count, char in runs for n in (first, count, char))
    places.append("/// %d runs: number of the first, how many, its code point.\npub(super) const GB18030_4: Range<usize> = %d..%d;\n" % (len(runs), len(blob), len(blob) + len(data)))
    blob.extend(data)
    (HERE / "tables.bin").write_bytes(blob)
    head = "// Written by gen.py.\n\n"
    (HERE / "places.rs").write_text("//! Where each table stands in tables.bin.\n" + head + "use std::ops::Range;\n\n" + "".join(places))

    lines, ids = [], sorted(collations)
    at = 0
    while at < len(ids):
        end = at
        while end + 1 < len(ids) and ids[end + 1] == ids[end] + 1 and collations[ids[end + 1]] == collations[ids[at]]:
            end += 1
        lines.append('    (%d, %d, "%s"),\n' % (ids[at], ids[end], collations[ids[at]]))
        at = end + 1
    (HERE / "collations.rs").write_text(
        "//! Which character set a collation's number means, in MySQL and in MariaDB: they nowhere disagree.\n" + head
        + "/// First number, last number, character set; sorted.\npub(super) const RUNS: [(u16, u16, &str); %d] = [\n" % len(lines) + "".join(lines) + "];\n")
    print(len(blob), "bytes,", len(lines), "runs of collations,", len(runs), "runs of gb18030")


main()
