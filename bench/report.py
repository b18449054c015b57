#!/usr/bin/env python3
"""report.py ROWS TEXT WHAT: makes the rows of a run into bench/results/DATE.md (a second run of a day gets a number)."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys

rows = [json.loads(line) for line in open(sys.argv[1])]
text = open(sys.argv[2]).read().strip()


def said(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return f"{os.cpu_count()} × {model}, {memory / 1048576:.0f} GiB, Linux {platform.release()}"


cell = lambda s: str(s).replace("|", "/")
now = datetime.datetime.now(datetime.UTC)
lines = [f"# {now:%Y-%m-%d %H:%M} UTC", "", f"{machine()}; {said('rustc', '--version')}; commit {said('git', 'rev-parse', '--short', 'HEAD')}.",
         f"Made by `bench/run.sh {sys.argv[3]}`. Times on a shared machine: `load` is the load average while a row ran.", ""]
if rows:
    lines += ["| what | goal | measured | holds | how, and beside it |", "|---|---|---|---|---|"]
    for r in rows:
        holds = {True: "yes", False: "**no**", None: ""}[r["holds"]]
        lines.append(f"| {cell(r['row'])} | {cell(r['goal'])} | {cell(r['measured'])} | {holds} | {cell(r['note'])}; {r['busy']}; `{r['script']}` |")
    lines.append("")
if text:
    lines += ["```", text, "```", ""]
folder = pathlib.Path(__file__).parent / "results"
folder.mkdir(exist_ok=True)
path, n = folder / f"{now:%Y-%m-%d}.md", 1
while path.exists():
    n += 1
    path = folder / f"{now:%Y-%m-%d}-{n}.md"
path.write_text("\n".join(lines))
print(f"\n{path}")
