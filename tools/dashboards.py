#!/usr/bin/env python3
"""Makes the dashboards of Grafana, dashboards/*.json, of dashboards/panels.toml.

    tools/dashboards.py             fails when the JSON differs from what would be made, or something in it is wrong
    tools/dashboards.py --write     makes it
    tools/dashboards.py --self-test shows that it finds what it is made to find
"""

import copy
import json
import pathlib
import re
import sys
import tomllib

from circles import ROOT
from rules import known, unknown

FOLDER = pathlib.Path(ROOT, "dashboards")
TAG = "tidegate"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What Grafana calls the kinds of panels, with their width and height in its grid of 24 columns.
KINDS = {"graph": ("timeseries", 8, 8), "bars": ("timeseries", 8, 8), "stat": ("stat", 4, 4), "table": ("table", 8, 8)}
UNITS = {"none", "s", "bytes", "Bps", "percentunit", "reqps", "ops"}
# Metrics, and what rules record.
SERIES = re.compile(r"\b((?:tidegate|process|spawn)_\w+|instance\w*:\w+:\w+|ALERTS)(?![\w(])(?:\{([^}]*)\})?")
CHOSEN = 'job=~"$job", instance=~"$instance"'


def select(expression):
    """The expression of the instances that are chosen, with Grafana's window for rates."""
    def chosen(match):
        return f"{match[1]}{{{', '.join(filter(None, [match[2], CHOSEN]))}}}"

    return SERIES.sub(chosen, expression).replace("[$w]", "[$__rate_interval]")


def panel(number, given, place):
    """A panel of Grafana."""
    kind, _, _ = KINDS[given.get("kind", "graph")]
    shown = {
        "id": number, "type": kind, "title": given["title"], "description": given["says"], "gridPos": place, "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": given["unit"], "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": DATASOURCE, "expr": select(expression), "legendFormat": legend or "__auto"}
            for at, (legend, expression) in enumerate(given["queries"].items())
        ],
    }
    defaults = shown["fieldConfig"]["defaults"]
    if "red_from" in given:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": given["red_from"]}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if kind == "timeseries":
        stacked = given.get("kind") == "bars"
        defaults["custom"] = {"fillOpacity": 30 if stacked else 5, "stacking": {"mode": "normal" if stacked else "none"}}
        shown["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == "table":
        shown["targets"] = [{**target, "instant": True, "format": "table"} for target in shown["targets"]]
    return shown


def placed(given):
    """The panels of a dashboard, row by row, from left to right."""
    panels, x, y, tall = [], 0, 0, 0
    for one in given:
        _, width, height = KINDS[one.get("kind", "graph")]
        width, height = one.get("width", width), one.get("height", height)
        if "row" in one or x + width > 24:
            x, y, tall = 0, y + tall, 0
        if "row" in one:
            row = {"id": len(panels) + 1, "type": "row", "title": one["row"], "collapsed": False, "panels": []}
            panels.append({**row, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
            y += 1
        panels.append(panel(len(panels) + 1, one, {"x": x, "y": y, "w": width, "h": height}))
        x, tall = x + width, max(tall, height)
    return panels


def variable(name, query):
    """A variable of a dashboard whose values are those of a label."""
    return {
        "name": name, "type": "query", "datasource": DATASOURCE, "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
        "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }


def dashboard(name, given):
    """A dashboard of Grafana."""
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}},
        variable("job", "label_values(tidegate_build_info, job)"),
        variable("instance", 'label_values(tidegate_build_info{job=~"$job"}, instance)'),
    ]
    # Only the metrics with the names of Spawn say in which system a call is.
    if any("$system" in query for one in given["panels"] for query in one["queries"].values()):
        variables.append(variable("system", f"label_values(spawn_invoke_stop_duration{{{CHOSEN}}}, system)"))
    link = {"type": "dashboards", "title": "Tidegate", "tags": [TAG], "asDropdown": False, "includeVars": True, "keepTime": True}
    return {
        "uid": f"tidegate-{name}", "title": f"Tidegate: {given['title']}", "description": given["says"], "tags": [TAG],
        "schemaVersion": 39, "version": 1, "editable": True, "timezone": "browser", "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"}, "links": [link], "templating": {"list": variables},
        "panels": placed(given["panels"]),
    }


def made(source):
    """The files that a source makes: names and texts."""
    boards = {name: dashboard(name, given) for name, given in tomllib.loads(source).items()}
    return {f"{name}.json": json.dumps(board, indent=1, ensure_ascii=False) + "\n" for name, board in boards.items()}


def overlap(one, other):
    a, b = one["gridPos"], other["gridPos"]
    return a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def faults(boards, rules, series):
    """What is wrong with dashboards."""
    wrong = []
    uids = [board["uid"] for board in boards]
    wrong += [f"{uid} is there twice" for uid in set(uids) if uids.count(uid) > 1]
    tags = {tag for board in boards for tag in board["tags"]}
    for board in boards:
        name, panels = board["uid"], board["panels"]
        variables = {one["name"] for one in board["templating"]["list"]}
        ids = [one["id"] for one in panels]
        wrong += [f"{name}: two panels are {number}" for number in set(ids) if ids.count(number) > 1]
        wrong += [f"{name} links to nothing: {link}" for link in board["links"] if not set(link["tags"]) <= tags]
        pairs = [(one, other) for at, one in enumerate(panels) for other in panels[at + 1:]]
        wrong += [f"{name}: {one['title']} overlaps {other['title']}" for one, other in pairs if overlap(one, other)]
        wrong += [f"{name}: {one['title']} is outside" for one in panels if one["gridPos"]["x"] + one["gridPos"]["w"] > 24]
        for one in (one for one in panels if one["type"] != "row"):
            where = f"{name}: {one['title']}"
            if not re.match(r"[A-Z0-9].*\S.*\.$", one["description"]):
                wrong.append(f"{where} has no sentence that says what it shows")
            if one["fieldConfig"]["defaults"]["unit"] not in UNITS:
                wrong.append(f"{where} has an unknown unit")
            for target in one["targets"]:
                for used in re.findall(r"\$(\w+)", target["expr"]):
                    if used not in variables | {"__rate_interval"}:
                        wrong.append(f"{where} has no variable {used}")
                if one["datasource"]["uid"] != "${datasource}" or target["datasource"]["uid"] != "${datasource}":
                    wrong.append(f"{where} asks a fixed datasource")
                if 'job=~"$job"' not in target["expr"]:
                    wrong.append(f"{where} shows what is not chosen")
                wrong += [f"{where}: {what}" for what in unknown(f"{rules}\nexpr: {target['expr']}", series)]
    return wrong


def self_test():
    source = '[a]\ntitle = "A"\nsays = "It."\n' + "\n".join(
        f'[[a.panels]]\ntitle = "{title}"\nsays = "It is shown."\nunit = "s"\nqueries = {{ "" = "sum(rate(tidegate_b[$w]))" }}' for title in "xyzw"
    )
    board = json.loads(made(source)["a.json"])
    assert [one["gridPos"]["y"] for one in board["panels"]] == [0, 0, 0, 8]
    assert board["panels"][0]["targets"][0]["expr"] == f"sum(rate(tidegate_b{{{CHOSEN}}}[$__rate_interval]))"
    assert select('a / instance:b:c{d="e"}') == f'a / instance:b:c{{d="e", {CHOSEN}}}'
    series = {"tidegate_b": {"job", "instance"}}
    assert faults([board], "", series) == []

    def spoiled(change):
        other = copy.deepcopy(board)
        change(other, other["panels"][1])
        return faults([other], "", series)

    for change in [
        lambda _, one: one.update(id=1),
        lambda _, one: one["gridPos"].update(x=4),
        lambda _, one: one["gridPos"].update(x=17, y=20),
        lambda _, one: one.update(description="No sentence"),
        lambda _, one: one.update(datasource={"uid": "mine"}),
        lambda _, one: one["targets"][0].update(expr=f"tidegate_c{{{CHOSEN}}}"),
        lambda _, one: one["targets"][0].update(expr=f'tidegate_b{{stage="x", {CHOSEN}}}'),
        lambda _, one: one["targets"][0].update(expr=f"tidegate_b{{{CHOSEN}}} > $other"),
        lambda _, one: one["targets"][0].update(expr="tidegate_b"),
        lambda _, one: one["fieldConfig"]["defaults"].update(unit="parsec"),
        lambda whole, _: whole["links"][0].update(tags=["others"]),
    ]:
        assert len(spoiled(change)) == 1, spoiled(change)
    assert faults([board, board], "", series) == ["tidegate-a is there twice"]


def main():
    if "--self-test" in sys.argv:
        self_test()
        return 0
    files = made((FOLDER / "panels.toml").read_text())
    if "--write" in sys.argv:
        for name, text in files.items():
            (FOLDER / name).write_text(text)
    there = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    wrong = [f"dashboards/{name} is not what panels.toml makes: --write" for name in files.keys() | there.keys() if files.get(name) != there.get(name)]
    series = known(pathlib.Path(ROOT, "docs/metrics.md").read_text())
    wrong += faults([json.loads(text) for text in files.values()], (FOLDER / "rules.yaml").read_text(), series)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
