#!/usr/bin/env python3
"""terminal.py CASE DTS FILE…: runs DTS with terminals where a user has them; prints what each showed as one JSON object.

CASE  out        standard output is a terminal
      err        standard error is one, standard output a pipe that is read after a while
      both       both are
      interrupt  as err, and Ctrl-C is typed once the bar is there
      gone       as err, and the reader of the pipe goes away once the bar is there
"""
import json, os, pty, select, subprocess, sys, time

case, command = sys.argv[1], sys.argv[2:]
LIMIT = time.monotonic() + 120


def read(fd):
    try:
        return os.read(fd, 65536)
    except OSError:  # A terminal whose other side is closed.
        return b""


pid_fd = None
terminal, inner = pty.openpty()
pipe_out = subprocess.PIPE if case in ("err", "interrupt", "gone") else inner
pipe_err = subprocess.PIPE if case == "out" else inner


def own_terminal():
    os.setsid()
    import fcntl, termios
    fcntl.ioctl(inner, termios.TIOCSCTTY, 0)


child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe_out, stderr=pipe_err, preexec_fn=own_terminal)
os.close(inner)
out = child.stdout.fileno() if child.stdout else None
err = child.stderr.fileno() if child.stderr else None
shown = {terminal: b"", out: b"", err: b""}
# The pipe is full and the child waits: its clock goes on, so that the next time it looks it shows the bar.
patient = case in ("err", "interrupt", "gone")
since = time.monotonic()
done = False
left = {fd for fd in (terminal, out, err) if fd is not None}
while left and time.monotonic() < LIMIT:
    held = patient and time.monotonic() < since + 0.5
    ready, _, _ = select.select([fd for fd in left if not (held and fd == out)], [], [], 0.1)
    for fd in ready:
        data = read(fd)
        shown[fd] += data
        if not data:
            left.discard(fd)
    if case in ("interrupt", "gone") and not done and b"MiB/s" in shown[terminal]:
        done = True
        if case == "interrupt":
            os.write(terminal, b"\x03")
        else:
            os.close(out)
            left.discard(out)
            child.stdout = None
status = child.wait(timeout=60)
print(json.dumps({
    "status": status,
    "terminal": shown[terminal].decode("utf-8", "replace"),
    "out": shown[out].decode("utf-8", "replace") if out is not None else None,
    "err": shown[err].decode("utf-8", "replace") if err is not None else None,
}))
