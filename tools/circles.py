#!/usr/bin/env python3
"""Fails on a circle of imports inside a crate and on an import against the order of the crates.

    tools/circles.py             checks the workspace
    tools/circles.py --edges     also prints every import between two files
    tools/circles.py --self-test shows that it finds what it is made to find

A node is a source file, an edge is a `crate::` or `super::` path in it. A file and the files below its own folder may
name each other; tests may name everything.
"""

import os
import re
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Each crate, and which of the others it may name.
MAY_NAME = {
    "pipeline": set(),
    "stages": {"pipeline"},
    "adapters": {"pipeline", "stages"},
    "benches": {"pipeline", "stages", "adapters"},
    "loadtests": set(),
}
LIBRARY = {"pipeline": "tidegate_pipeline", "stages": "tidegate_stages", "adapters": "tidegate"}

NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|r#"(?:.|\n)*?"#|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'', re.S)
TEST_MODULE = re.compile(r"#\[cfg\((?:all\(|any\()?test\b[^\]]*\]\s*(?:pub(?:\([^)]*\))?\s+)?(?:mod\s+\w+\s*\{|mod\s+\w+\s*;|use\b)")
PATH = re.compile(r"\b(crate|super(?:\s*::\s*super)*)\s*::\s*")


def without_tests(text):
    """The text less comments, strings and test modules."""
    text = NOISE.sub(" ", text)
    while match := TEST_MODULE.search(text):
        end = match.end()
        if match[0].endswith("{"):
            depth = 1
            while depth and end < len(text):
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
        elif not match[0].endswith(";"):
            end = text.find(";", end) + 1
        text = text[: match.start()] + " " + text[end:]
    return text


def tree(text, at):
    """The paths that begin at `at`, braces taken apart: a list of lists of names, and where they end."""
    if at < len(text) and text[at] == "{":
        paths, at = [], at + 1
        while at < len(text) and text[at] != "}":
            if text[at] in ", \n\t":
                at += 1
                continue
            found, at = tree(text, at)
            paths += found
        return paths, at + 1
    name = re.compile(r"\w+|\*").match(text, at)
    if not name:
        return [[]], at + 1
    at = name.end()
    sep = re.compile(r"\s*::\s*(?=[\w{*])").match(text, at)
    if not sep:
        rest = re.compile(r"\s+as\s+\w+").match(text, at)
        return [[name[0]]], rest.end() if rest else at
    below, at = tree(text, sep.end())
    return [[name[0], *path] for path in below], at


def modules(source):
    """Each file of a crate by its module path; the root is ()."""
    found = {}
    for folder, _, files in os.walk(source):
        for file in files:
            path = os.path.join(folder, file)
            parts = os.path.relpath(path, source)[:-3].split(os.sep)
            if not file.endswith(".rs") or "tests" in parts or parts[0] in ("main", "bin"):
                continue
            if parts[-1] in ("lib", "mod"):
                parts.pop()
            found[tuple(parts)] = path
    return found


def related(a, b):
    """Whether one stands below the other."""
    return a[: len(b)] == b or b[: len(a)] == a


def imports(source):
    """For each module path, those it names; without those above and below it."""
    files = modules(source)
    edges = {}
    for here, path in files.items():
        with open(path, encoding="utf-8") as file:
            text = without_tests(file.read())
        edges[here] = set()
        for match in PATH.finditer(text):
            ups = match[1].count("super")
            base = here[: len(here) - ups] if ups else ()
            for names in tree(text, match.end())[0]:
                there = base + tuple(names)
                while there not in files:
                    there = there[:-1]
                if not related(here, there):
                    edges[here].add(there)
    return edges


def circles(edges):
    """The strongly connected components of more than one node (Tarjan's algorithm)."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for there in sorted(edges[node]):
            if there not in order:
                visit(there)
                low[node] = min(low[node], low[there])
            elif there in stack:
                low[node] = min(low[node], order[there])
        if low[node] == order[node]:
            at = stack.index(node)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def against_order(root):
    """Each (file, library) where a crate names one that it may not."""
    wrong = []
    for crate, allowed in MAY_NAME.items():
        forbidden = [library for other, library in LIBRARY.items() if other != crate and other not in allowed]
        pattern = re.compile(r"\b(" + "|".join(forbidden) + r")\s*::") if forbidden else None
        for folder, _, files in os.walk(os.path.join(root, crate, "src")):
            for file in files:
                path = os.path.join(folder, file)
                if not pattern or not file.endswith(".rs"):
                    continue
                with open(path, encoding="utf-8") as source:
                    for library in sorted(set(pattern.findall(NOISE.sub(" ", source.read())))):
                        wrong.append((os.path.relpath(path, root), library))
    return wrong


def name(module):
    return "::".join(module) or "lib"


def check(root, show_edges=False):
    """Prints what is wrong; how much that is."""
    wrong = 0
    for crate in MAY_NAME:
        edges = imports(os.path.join(root, crate, "src"))
        if show_edges:
            for here in sorted(edges):
                for there in sorted(edges[here]):
                    print(f"{crate}: {name(here)} -> {name(there)}")
        for component in circles(edges):
            wrong += 1
            print(f"{crate}: a circle of imports between {', '.join(map(name, component))}:")
            for here in component:
                for there in sorted(edges[here] & set(component)):
                    print(f"    {name(here)} names {name(there)}")
    for path, library in against_order(root):
        wrong += 1
        print(f"{path} names {library}, against the order of the crates")
    return wrong


def self_test():
    """A made-up workspace with one circle of each kind that counts, and what does not count."""
    with tempfile.TemporaryDirectory() as root:
        def write(path, text):
            path = os.path.join(root, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

        write("pipeline/src/lib.rs", "mod a; mod b; mod c;")
        write("pipeline/src/a.rs", "use crate::{c, b::{B, x::Y as Z}};\n// crate::c\n")
        write("pipeline/src/b.rs", "mod x; fn f() { super::c::g() }")
        write("pipeline/src/b/x.rs", "use crate::b::B; // its parent: allowed")
        write("pipeline/src/c.rs", '#[cfg(test)]\nmod tests { use crate::a::A; }\nconst S: &str = "crate::a";')
        write("stages/src/lib.rs", "use tidegate_pipeline::X;")
        assert imports(os.path.join(root, "pipeline/src"))[("a",)] == {("c",), ("b",), ("b", "x")}
        assert check(root) == 0, "nothing is wrong yet"
        write("pipeline/src/c.rs", "use crate::a::A;")
        write("stages/src/lib.rs", "use tidegate::X;")
        assert check(root) == 2, "a circle and an arrow against the order"


if __name__ == "__main__":
    if "--self-test" in sys.argv[1:]:
        self_test()
    else:
        sys.exit(int(check(ROOT, "--edges" in sys.argv[1:]) > 0))
