#!/usr/bin/env python3
"""Fails when a rule or alert of dashboards/ asks for a metric or a label that docs/metrics.md does not have, and when an alert has no test,
or no page of the runbook that says what users feel, what to look at and what to do. Fails, too, when a reason for which calls are refused is not
counted from the first scrape on, or not explained by the page of its alert.

    tools/rules.py             checks the workspace
    tools/rules.py --self-test shows that it finds what it is made to find
"""

import pathlib
import re
import sys

from circles import ROOT

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", re.M)
NAME = re.compile(r"\b((?:tidegate|process)_\w+)(?:\{([^}]*)\})?")
HEADINGS = ["## What users feel", "## What to look at", "## What to do"]


def known(page):
    """The series of docs/metrics.md, with their labels."""
    series = {}
    for name, kind, labels in ROW.findall(page):
        labels = set(re.findall(r"`(\w+)`", labels))
        names = [name] if kind != "histogram" else [name + end for end in ("_bucket", "_sum", "_count")]
        series.update((each, labels | {"job", "instance", "le"}) for each in names)
    return series


def unknown(rules, series):
    """What rules ask for that is not there."""
    wrong, recorded = [], set(re.findall(r"record: (\S+)", rules))
    for expression in re.findall(r"expr: (.*)", rules):
        for used in re.findall(r"\b\w+(?::\w+)+", expression):
            if used not in recorded:
                wrong.append(f"{used} is not recorded")
        for name, labels in NAME.findall(re.sub(r"\b\w+(?::\w+)+", "", expression)):
            if name not in series:
                wrong.append(f"{name} is no metric")
                continue
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels):
                if label not in series[name]:
                    wrong.append(f"{name} has no label {label}")
    return wrong


def untold(rules, tests, pages):
    """Alerts without a page that says it all, and without a test that they fire and one that they do not."""
    wrong = []
    for alert, rest in re.findall(r"- alert: (\w+)\n((?:(?!- alert:).*\n)*)", rules):
        page = re.search(r"runbook: (\S+)", rest)
        text = pages.get(page[1]) if page else None
        if text is None or [line for line in text.splitlines() if line.startswith("## ")] != HEADINGS:
            wrong.append(f"{alert} has no page that says {', '.join(HEADINGS)}")
        for what in ("fires", "is quiet"):
            if f"- name: {alert} {what}\n" not in tests:
                wrong.append(f"{alert} has no test {what!r}")
    return wrong


def unexplained(sources, page):
    """Reasons for which calls are refused that have no series from the start, or that their page does not explain."""
    reasons = set(re.findall(r'\boverloaded\(\s*"(\w+)"|\bCALLS_REFUSED_TOTAL, "reason" => "(\w+)"', sources))
    reasons = {one or other for one, other in reasons}
    row = re.search(r'\(\s*CALLS_REFUSED_TOTAL,\s*"reason",\s*&\[(.*?)\]', sources, re.S)
    counted = set(re.findall(r'"(\w+)"', row[1])) if row else set()
    wrong = [f"the reason {reason} is not both in the code and in RARE of the mesh" for reason in sorted(reasons ^ counted)]
    return wrong + [f"calls-shed.md does not explain {reason}" for reason in sorted(reasons) if f"`{reason}`" not in page]


def self_test():
    series = known("| `tidegate_a_seconds` | histogram | `stage` | seconds | A. |\n| `tidegate_b` | gauge |  |  | B. |\n")
    assert "tidegate_a_seconds_bucket" in series and "tidegate_a_seconds" not in series
    rules = 'record: i:x:y\nexpr: sum(tidegate_c) + tidegate_b{reason="x"} + i:x:y + i:x:z + tidegate_a_seconds_sum{stage="s"}\n'
    assert unknown(rules, series) == ["i:x:z is not recorded", "tidegate_c is no metric", "tidegate_b has no label reason"]
    rules = "- alert: One\n  runbook: one.md\n- alert: Two\n  runbook: two.md\n"
    tests = "- name: One fires\n- name: One is quiet\n- name: Two fires\n"
    wrong = untold(rules, tests, {"one.md": "\n".join(HEADINGS)})
    assert [line.split()[0] for line in wrong] == ["Two", "Two"], wrong
    sources = 'overloaded(\n    "a", text)\ncounter!(CALLS_REFUSED_TOTAL, "reason" => "b")\n(\n CALLS_REFUSED_TOTAL,\n "reason",\n &["a", "c"],\n)'
    wrong = unexplained(sources, "`a`")
    assert [re.search(r"\b[bc]\b", line)[0] for line in wrong] == ["b", "c", "b"], wrong


def main():
    if "--self-test" in sys.argv:
        self_test()
        return 0
    root = pathlib.Path(ROOT)
    series = known((root / "docs/metrics.md").read_text())
    files = [root / "dashboards" / name for name in ("rules.yaml", "alerts.yaml")]
    rules = "".join(path.read_text() for path in files)
    pages = {str(path.relative_to(root)): path.read_text() for path in root.glob("docs/runbook/*.md")}
    wrong = unknown(rules, series) + untold(rules, (root / "dashboards/tests.yaml").read_text(), pages)
    sources = "".join(path.read_text() for path in sorted((root / "stages/src").rglob("*.rs")))
    wrong += unexplained(sources, pages["docs/runbook/calls-shed.md"])
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
