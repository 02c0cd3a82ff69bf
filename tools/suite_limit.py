#!/usr/bin/env python3
"""Shows that ./test ends what it started: at a suite's limit, when a command is done, and on a signal; that it counts rightly
and shows again what failed, and that each test program has a suite.

Runs the `run` of ./test itself on small commands. Needs nothing else and takes some seconds.
"""
import contextlib
import io
import importlib.machinery
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 2
# How long a child runs that nobody ends; then it says so.
LONG_S = 60

# Starts a child that holds the pipe and prints nothing; writes its id to a file.
PARENT = f'(sleep {LONG_S}; touch "$0.finished") & echo $! > "$0.new"; mv "$0.new" "$0"'
SILENT = f"{PARENT}; wait"
LOUD = f"{PARENT}; while sleep 0.1; do echo busy; done"
DONE = f"{PARENT}; exit 0"


def runner():
    """The module that ./test is."""
    loader = importlib.machinery.SourceFileLoader("runner", str(ROOT / "test"))
    sys.dont_write_bytecode = True
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("runner", loader))
    loader.exec_module(module)
    return module


def is_running(pid):
    """Whether it runs; one that has ended and is still listed does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def soon(condition):
    """Whether the condition holds, or comes to hold in a sixth of the time that the child runs."""
    until = time.monotonic() + LONG_S / 6
    while not (holds := condition()) and time.monotonic() < until:
        time.sleep(0.05)
    return holds


def was_ended(file):
    """Whether the child whose id is in the file did not live to its own end."""
    pid = int(file.read_text())
    return soon(lambda: not is_running(pid)) and not os.path.exists(f"{file}.finished")


def limited(script, file):
    """What `run` counts when the suite's time is over in LIMIT_S."""
    module = runner()
    module.suite_ends = time.monotonic() + LIMIT_S
    return module.run("sh", "-c", script, str(file))


def signalled(file):
    """Ends a ./test that waits for a silent command with SIGTERM."""
    module = "import suite_limit; module = suite_limit.runner(); module.end_on_signals()"
    command = f"module.run('sh', '-c', {SILENT!r}, {str(file)!r})"
    waiting = subprocess.Popen(
        [sys.executable, "-c", f"{module}; {command}"], cwd=ROOT / "tools", stderr=subprocess.DEVNULL
    )
    if soon(file.exists):
        waiting.send_signal(signal.SIGTERM)
    waiting.wait(timeout=2 * LONG_S)


def main():
    failures = []
    with tempfile.TemporaryDirectory() as directory:
        for name, script, expected in [("silent", SILENT, (0, 1)), ("loud", LOUD, (0, 1)), ("done", DONE, (1, 0))]:
            file = pathlib.Path(directory, name)
            counted = limited(script, file)
            if counted != expected:
                failures.append(f"{name}: counted {counted}, not {expected}")
            if not was_ended(file):
                failures.append(f"{name}: its child ran on")
        file = pathlib.Path(directory, "signalled")
        signalled(file)
        if not was_ended(file):
            failures.append("signalled: the child ran on")
    for said, expected in [("0 passed; 0 failed", (0, 0)), ("2 passed; 1 failed", (2, 1))]:
        # What it shows would be counted again by the ./test that runs this file.
        with contextlib.redirect_stdout(io.StringIO()):
            counted = runner().run("echo", f"test result: ok. {said}; 0 ignored")
        if counted != expected:
            failures.append(f"{said}: counted {counted}")
    module = runner()
    block = "---- a::b stdout ----\n\nthread 'a::b' panicked at x.rs:1:\nwhy\n\nfailures:\n    a::b\n"
    with contextlib.redirect_stdout(io.StringIO()):
        module.run("sh", "-c", 'printf "%s" "$1"; exit 3', "sh", block)
    if module.failures[0] != ["a::b", "    thread 'a::b' panicked at x.rs:1:", "    why"] or "exit code 3" not in module.failures[1][0]:
        failures.append(f"shown again of a failed test: {module.failures}")
    text = (ROOT / "test").read_text()
    # Those of the edge, of the actor model and of what operators see, and all of the other crates, are taken by their folder.
    for name in runner().files("adapters"):
        if not name.startswith(("edge_", "actors_", "see_")) and f'"{name}"' not in text:
            failures.append(f"adapters/tests/{name} is in no suite of ./test")
    print("\n".join(failures) or "what ./test starts is ended at its limit, when it is done, and on a signal, and a run of no test is not a success")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
