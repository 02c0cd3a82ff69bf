#!/usr/bin/env python3
"""Fails when a row of docs/requirements.md is blank, stands twice, or names a test that is not there, also when docs/faults.md or
docs/threats.md names one, and when a row of docs/threats.md names none. Prints the counts.

    tools/requirements.py             checks the workspace
    tools/requirements.py --self-test shows that it finds what it is made to find
"""

import collections
import pathlib
import re
import sys

from circles import ROOT

PAGE, FAULTS, THREATS = "docs/requirements.md", "docs/faults.md", "docs/threats.md"
ROW = re.compile(r"^\| ([A-Z0-9]+-\d+) \|(.*)\|(.*)\|$")
TEST = re.compile(r"^\s*#\[(?:tokio::)?test\b.*\]\n(?:\s*#\[.*\]\n)*\s*(?:pub(?:\(crate\))? )?(?:async )?fn (\w+)\(", re.M)
REASON = re.compile(r"(not applicable|later): \S")
FOLDERS = ["pipeline", "stages", "adapters", "loadtests"]


def tests():
    """The names of all tests."""
    return {
        name
        for folder in FOLDERS
        for path in pathlib.Path(ROOT, folder).rglob("*.rs")
        for name in TEST.findall(path.read_text())
    }


def check(page, names):
    """What is wrong with the page, and the count of each kind of row."""
    wrong, counts, seen = [], collections.Counter(), set()
    for line in page.splitlines():
        if not (row := ROW.match(line)):
            if re.match(r"\| [A-Z0-9]+-\d", line):
                wrong.append(f"no row of three columns: {line}")
            continue
        number, what, shown = row[1], row[2].strip(), row[3].strip()
        if number in seen:
            wrong.append(f"{number} stands twice")
        seen.add(number)
        if not what:
            wrong.append(f"{number} does not say what is done")
        if reason := REASON.match(shown):
            counts[reason[1]] += 1
            continue
        named = re.findall(r"`(\w+)`", shown)
        if not named or re.sub(r"`\w+`|[, ]", "", shown):
            wrong.append(f"{number} names no test, and no reason in the form `later: what`: {shown!r}")
        wrong.extend(f"{number} names {name}, which is no test" for name in named if name not in names)
        counts["shown by tests"] += 1
    return wrong, counts


def without_test(page):
    """Rows of threats that no test shows."""
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| it may try to")]
    return [f"no test in {THREATS}: {row}" for row in rows if not re.search(r"\|[^|]*`[a-z]\w{19,}`[^|]*\|$", row)]


def self_test():
    good = "| A-1 | x. | `one`, `two` |\n| A-2 | x. | later: y |"
    bad = ["| A-1 | x. | |", "| A-1 | | `one` |", "| A-1 | x. | `three` |", "| A-1 | x. | soon |", "| A-1 | x. |", f"{good}\n| A-1 | x. | `one` |"]
    names = {"one", "two"}
    missed = [page for page in bad if len(check(page, names)[0]) != 1]
    if check(good, names) != ([], {"shown by tests": 1, "later": 1}):
        missed.append(good)
    if len(without_test("| it may try to | x | test |\n| a | b | `x.rs` |\n| a | b | `a_test_with_a_long_name` |")) != 1:
        missed.append("a threat without a test")
    print("\n".join(missed) or "blanks, doubles and missing tests are found")
    return int(bool(missed))


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    names = tests()
    wrong, counts = check(pathlib.Path(ROOT, PAGE).read_text(), names)
    # Names of tests are long; what else stands in backquotes there is a file or a header.
    for page in FAULTS, THREATS:
        rows = [line for line in pathlib.Path(ROOT, page).read_text().splitlines() if line.startswith("|")]
        named = re.findall(r"`(\w{20,})`", "\n".join(row.rsplit("|", 2)[1] for row in rows))
        wrong.extend(f"{page} names {name}, which is no test" for name in named if name not in names)
    wrong.extend(without_test(pathlib.Path(ROOT, THREATS).read_text()))
    print("\n".join(wrong) or ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
