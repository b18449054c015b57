#!/usr/bin/env python3
"""check_dump.py --dts PROGRAM ARCHIVE [RECORDING…]: holds `dts binlog dump --format json` against what the server said.

ARCHIVE holds binlog files of a real server and, beside each, X.expected.json: what SELECT showed before and after every
statement. All files of a recording are dumped in one call. Each row record must be one of the expected changes of its table
and operation that no record before it was: every value equal, every column there unless `partial` lists its side. At the end
none may be left. Prints a line per recording; exit status 1 if one failed. docs/formats.md is the contract.
"""
import argparse, base64, hashlib, json, pathlib, struct, subprocess, sys, tarfile, tempfile
from decimal import Decimal

# Rows that no SELECT shows as they are logged: histories and periods of MariaDB.
UNCOMPARED = {"t_sv", "t_sv2", "t_per", "t_seq"}


def equal_text(expected, found):
    """A long text is expected as its length and its hash."""
    if not isinstance(found, str):
        return False
    if isinstance(expected, dict):
        digest = hashlib.sha256(found.encode("utf-8", "surrogateescape")).hexdigest()
        return len(found) == expected["len"] and digest == expected["sha256"]
    return expected == found


def float32(number):
    try:
        return struct.pack("<f", float(number))
    except (OverflowError, TypeError, ValueError):
        return None


def number_equals(text, found):
    try:
        return int(text) == found if isinstance(found, int) else float(text) == float(found)
    except ValueError:
        try:
            return float(text) == float(found)
        except ValueError:
            return False


def plain_equals(text, found):
    """Numbers, decimals and times are expected as the server's text."""
    if isinstance(found, bool):
        return False
    if isinstance(found, (int, Decimal)):
        return number_equals(text, found)
    if not isinstance(found, str):
        return False
    utc = found.endswith("Z") and "T" in found
    return text == found or utc and text == found[:-1].replace("T", " ", 1)


def base64_hex(text):
    try:
        return base64.b64decode(text, validate=True).hex().upper()
    except (ValueError, TypeError):
        return None


def json_equals(expected, found):
    if equal_text(expected, found):
        return True
    if isinstance(expected, dict) or not isinstance(found, str):
        return False
    try:
        return json.loads(expected, parse_float=Decimal) == json.loads(found, parse_float=Decimal)
    except ValueError:
        return False


def geometry_equals(expected, found):
    if not isinstance(found, dict):
        return False
    raw = struct.pack("<I", found["srid"]) + base64.b64decode(found["wkb"])
    return equal_text(expected["hex"], raw.hex().upper())


def equals(expected, found):
    if expected is None or found is None:
        return expected is found
    if isinstance(expected, str):
        return plain_equals(expected, found)
    if isinstance(found, dict) and set(found) == {"base64"} and "hex" in expected and "wkt" not in expected:
        return equal_text(expected["hex"], base64_hex(found["base64"]))
    if "double" in expected:
        return not isinstance(found, (str, dict, list)) and float32(found) == float32(expected["double"])
    if "uint" in expected:
        return isinstance(found, int) and found == int(expected["uint"])
    if "index" in expected or "bits" in expected:
        return expected["text"] == found
    if "json" in expected:
        return json_equals(expected["json"], found)
    if "wkt" in expected:
        return geometry_equals(expected, found)
    if isinstance(found, list):
        raw = struct.pack("<%df" % len(found), *map(float, found))
        return equal_text(expected["hex"], raw.hex().upper())
    if "text" in expected:
        return equal_text(expected["text"], found)
    return "hex" in expected and equal_text(expected["hex"], base64_hex(found))


def difference(expected, record):
    """What is wrong with a record as this change; None if nothing is."""
    partial = record.get("partial") or []
    for side in ("before", "after"):
        want, found = expected.get(side), record.get(side)
        if want is None or found is None:
            if (want is None) != (found is None) and side not in partial:
                return "%s: one has a row and one has none" % side
            continue
        for column, value in found.items():
            if column not in want:
                return "%s.%s is no column of the table" % (side, column)
            if not equals(want[column], value):
                shown = json.dumps(want[column])[:160], json.dumps(value, default=str)[:160]
                return "%s.%s: expected %s, found %s" % ((side, column) + shown)
        missing = set(want) - set(found)
        if missing and side not in partial:
            return "%s lacks %s" % (side, ", ".join(sorted(missing)))
    return None


def changes(expected):
    for step in expected["steps"]:
        for statement in step.get("statements", [step]):
            yield from statement.get("changes", [])


def check(dts, folder, name):
    """How many rows were right. Raises AssertionError."""
    expected = json.loads((folder / (name + ".expected.json")).read_text())
    files = [str(folder / file) for file in expected["binlog_files"]]
    run = subprocess.run([dts, "binlog", "dump", "--format", "json", *files], capture_output=True, timeout=300)
    assert run.returncode == 0, "exit %d: %r" % (run.returncode, run.stderr[-300:])
    want = list(changes(expected))
    left = dict(enumerate(want))
    # Without a key it is not known which row became which.
    loose = {table for table, final in expected["final"].items() if not final.get("primary_key")} | UNCOMPARED
    rows = 0
    for line in run.stdout.splitlines():
        record = json.loads(line, parse_float=Decimal)
        if record["kind"] != "row":
            continue
        rows += 1
        assert "unresolved" not in record, "row %d has unresolved columns: %s" % (rows, record["unresolved"])
        table = record["table"] if record["db"] == "cdc" else record["db"] + "." + record["table"]
        near = [i for i, change in left.items() if change["table"] == table and change["op"] == record["op"]]
        same = next((i for i in near if difference(left[i], record) is None), None)
        if same is not None:
            del left[same]
        elif table not in loose:
            why = difference(left[near[0]], record) if near else "no such change is expected"
            raise AssertionError("row %d (%s %s at %s): %s" % (rows, record["op"], table, record["pos"], why))
    left = [change for change in left.values() if change["table"] not in loose]
    # Of what was logged as statements nothing can be seen.
    if left and name != "statement_mixed":
        raise AssertionError("%d changes never came, first %s %s" % (len(left), left[0]["op"], left[0]["table"]))
    return rows


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--dts", required=True)
    args.add_argument("archive")
    args.add_argument("recording", nargs="*")
    args = args.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(args.archive) as archive:
            archive.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(folder)
        found = {path.name.removesuffix(".expected.json"): path.parent for path in pathlib.Path(folder).rglob("*.expected.json")}
        assert found, "no recordings in the archive"
        for name in args.recording or sorted(found):
            try:
                print("ok    %-24s %d rows" % (name, check(args.dts, found[name], name)))
            except Exception as error:
                failed += 1
                print("FAIL  %-24s %s: %s" % (name, type(error).__name__, error))
    print("%d recordings, %d failed" % (len(args.recording or found), failed))
    sys.exit(1 if failed else 0)


main()
