#!/usr/bin/env python3
"""fuzz/seeds.py: cuts first inputs of the binlog's targets out of the recordings of real servers, into corpus/.
`fuzz/run.sh keep` replaces them by what reaches as much with less."""
import hashlib, io, pathlib, struct, tarfile

here = pathlib.Path(__file__).parent
HEADER, FORMAT, CRC = 19, 15, 4
SERVERS = {(b"9.", True): 0, (b"10.", True): 6, (b"11.", True): 6, (b"10.", False): 5}


def files():
    for archive in sorted((here.parent / "tests/fixtures").glob("binlogs-*.tar.xz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and not member.name.endswith((".json", ".txt")):
                    yield member.name, tar.extractfile(member).read()


def events(data):
    at = 4
    while at + HEADER <= len(data):
        length = struct.unpack_from("<I", data, at + 9)[0]
        yield data[at : at + length]
        at += length


def keep(target, data):
    folder = here / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def groups(all_events):
    """The format description, then some events: each table with its rows, each transaction's ends."""
    group = []
    for event in all_events:
        ty = event[4]
        if ty in (19, 33, 34, 42, 162) and not (ty == 19 and group and group[-1][4] in (19, 162, 33, 34, 42, 2)):
            if group:
                yield group
            group = []
        group.append(event)
    yield group


def documents(event):
    """What looks like a JSON column: a length, then a container of just that size."""
    for at in range(len(event) - 8):
        length = struct.unpack_from("<I", event, at)[0]
        if 5 <= length <= 1000 and at + 4 + length <= len(event):
            ty, doc = event[at + 4], event[at + 4 : at + 4 + length]
            wide = "<II" if ty in (1, 3) else "<HH"
            if ty <= 3 and len(doc) > 9 and struct.unpack_from(wide, doc, 1)[1] == length - 1:
                yield doc


seen = set()
for name, data in files():
    first, *others = list(events(data))
    crc = first[-5] == 1
    cut = [event[:-CRC] if crc else event for event in others]
    version = first[HEADER + 2 : HEADER + 52]
    server = next((n for (start, sum), n in SERVERS.items() if version.startswith(start) and sum == crc), 2)
    small = 0
    for group in groups(others):
        # One of each kind a file: types of events, and lengths of the table's shape.
        kind = (server, tuple(sorted({(e[4], len(e) // 64) for e in group})))
        size = sum(map(len, group))
        if kind in seen or size > 4000:
            continue
        seen.add(kind)
        small += 1
        if small > 40:
            break
        keep("binlog_file", data[:4] + first + b"".join(group))
        frames = b"".join(
            bytes([e[4]]) + struct.pack(">H", len(e) - HEADER) + e[HEADER:]
            for e in (g[:-CRC] if crc else g for g in group)
        )
        keep("binlog_event", bytes([server]) + frames)
    if "mysql" in name:
        docs = {doc for event in cut for doc in documents(event)}
        for doc in sorted(docs, key=len)[:60]:
            keep("binlog_json", b"\0" + doc)
        # A document and the differences to it: what follows the one may be the other.
        if "partial" in name:
            for event in cut:
                for doc in list(documents(event))[:1]:
                    at = event.index(doc) + len(doc)
                    keep("binlog_json", b"\1" + struct.pack(">H", len(doc)) + doc + event[at + 5 : at + 80])

# Choices, for the models.
state = 1
for n in range(40):
    choices = bytearray()
    for _ in range(200):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        choices.append(state >> 56)
    keep("binlog_json", bytes([2]) + bytes(choices))
    keep("binlog_event", bytes([n, 0]) + bytes(choices))
