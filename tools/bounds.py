#!/usr/bin/env python3
"""Fails when a bound of the code has no row in the table "Every queue and buffer" of docs/ARCHITECTURE.md, and when that table
names a file or a setting that is not there.

    tools/bounds.py             checks the workspace
    tools/bounds.py --self-test shows that it finds what it is made to find

A bound is a line of code that makes a bounded channel, a semaphore or a bound of a buffer (MAKES), and a setting whose name
ends in BYTES, EVENTS, CONNECTIONS or DEMAND. A row names the file, by the end of its path, or the setting.
"""

import os
import re
import sys
import tempfile

from circles import ROOT, without_tests

CRATES = ["pipeline/src", "stages/src", "adapters/src"]
PAGE, HEADING = "docs/ARCHITECTURE.md", "## Every queue and buffer"
SETTINGS = "adapters/src/config/table/"

MAKES = re.compile(
    r"\b(?:flume::bounded|(?:mpsc::|broadcast::)channel|Semaphore::new|ByteBound::new)\s*(?:::<[^>]*>)?\(|(?<!struct )(?<!impl )(?<!-> )\bBound \{"
)
SETTING = re.compile(r'^\s*"([A-Z_]+_(?:BYTES|EVENTS|CONNECTIONS|DEMAND))",$', re.M)
NAMED = re.compile(r"`([^`]*)`")
# Sizes of one thing, not of all that waits; and what has no effect stands in another file.
SINGLE = {"TIDEGATE_MAX_STATE_BYTES"}


def rows(page):
    """What the rows of the table name: files and settings."""
    table = page.split(HEADING, 1)[1].split("\n## ", 1)[0]
    named = set()
    for line in table.splitlines():
        if line.startswith("|"):
            named.update(NAMED.findall(line))
    return named


def sources(root):
    """All source files, with their text less tests."""
    for crate in CRATES:
        for directory, _, files in os.walk(os.path.join(root, crate)):
            for file in files:
                path = os.path.relpath(os.path.join(directory, file), root)
                if file.endswith(".rs") and file not in ("tests.rs", "model.rs") and "/tests/" not in path and "/testkit/" not in path:
                    with open(os.path.join(root, path), encoding="utf-8") as text:
                        yield path, text.read()


def faults(root):
    with open(os.path.join(root, PAGE), encoding="utf-8") as page:
        named = rows(page.read())
    files = {name for name in named if name.endswith(".rs")}
    found, paths, settings = [], [], set()
    for path, text in sources(root):
        paths.append(path)
        if path.startswith(SETTINGS):
            settings.update(SETTING.findall(text))
        if MAKES.search(without_tests(text)) and not any(path.endswith("/" + file) for file in files):
            found.append(f"{path} makes a bound that no row of {PAGE} names")
    for setting in sorted(settings - SINGLE - named):
        found.append(f"{setting} has no row in {PAGE}")
    for file in sorted(files):
        if not any(path.endswith("/" + file) for path in paths):
            found.append(f"{PAGE} names {file}, which is not there")
    for name in sorted(named):
        if re.fullmatch(r"TIDEGATE_[A-Z_]+(?:BYTES|EVENTS|CONNECTIONS)", name) and name not in settings:
            found.append(f"{PAGE} names {name}, which is no setting")
    return found


def self_test():
    page = f"{HEADING}\n\n| a | b |\n|---|---|\n| x | `TIDEGATE_X_BYTES` (`queue.rs`) |\n\n## Next\n| `other.rs` |\n"
    table = '    setting(\n        "TIDEGATE_X_BYTES",\n'
    cases = [
        ({}, []),
        ({"stages/src/other.rs": "fn f() { flume::bounded(3) }"}, ["stages/src/other.rs"]),
        ({"stages/src/other.rs": "fn f() { Semaphore::new(3) }"}, ["stages/src/other.rs"]),
        ({"pipeline/src/other.rs": "let b = Bound { events: 1, bytes: 1 };"}, ["pipeline/src/other.rs"]),
        ({"stages/src/other.rs": "struct Bound {}\n// flume::bounded(3)\n#[cfg(test)] mod tests { fn f() { flume::bounded(3) } }"}, []),
        ({SETTINGS + "access.rs": table + '        "TIDEGATE_Y_EVENTS",\n'}, ["TIDEGATE_Y_EVENTS"]),
        ({SETTINGS + "access.rs": ""}, ["TIDEGATE_X_BYTES"]),
        ({"stages/src/queue.rs": None}, ["queue.rs"]),
    ]
    for changes, expected in cases:
        tree = {PAGE: page, SETTINGS + "access.rs": table, "stages/src/queue.rs": "fn f() { flume::bounded(3) }", **changes}
        with tempfile.TemporaryDirectory() as root:
            for path, text in tree.items():
                if text is not None:
                    os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                    with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                        file.write(text)
            told = faults(root)
        assert len(told) == len(expected) and all(part in line for part, line in zip(expected, told)), (changes, told)


def main(arguments):
    if "--self-test" in arguments:
        self_test()
        return 0
    told = faults(ROOT)
    for line in told:
        print(line)
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
