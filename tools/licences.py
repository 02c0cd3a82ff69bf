#!/usr/bin/env python3
"""Fails when a crate in the tree has a licence or a source that deny.toml does not allow.

Needs Python 3.11 and cargo; takes a second. `cargo deny check` looks at more (advisories, duplicates) and needs the network.
"""
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def is_allowed(expression, allowed):
    """Whether an SPDX expression can be met: any side of OR, every side of AND; the old `/` means OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        met = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = both() or met
        return met

    def both():
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0)
        if token == "(":
            met = either()
            if tokens.pop(0) != ")":
                raise ValueError("a parenthesis is not closed")
            return met
        if token in (")", "AND", "OR", "WITH"):
            raise ValueError(f"unexpected {token}")
        if tokens[:1] == ["WITH"]:
            token = f"{token} WITH {tokens[1]}"
            del tokens[:2]
        return token in allowed

    met = either()
    if tokens:
        raise ValueError(f"unexpected {tokens[0]}")
    return met


def crates(targets):
    """Every crate that a build for one of the targets can need, tests and tools included."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for target in targets:
        command += ["--filter-platform", target]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout)["packages"]


def complaint(crate, allowed, registries):
    licence, source = crate["license"], crate["source"]
    if source is not None and source.removeprefix("registry+").removeprefix("sparse+") not in registries:
        return f"comes from {source}"
    if not licence:
        return f"names no licence (file: {crate['license_file']})"
    try:
        return None if is_allowed(licence, allowed) else f"is under {licence}"
    except (IndexError, ValueError) as error:
        return f"has a licence that cannot be read: {licence} ({error})"


def self_check():
    allowed = {"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"}
    for expression, expected in {
        "MIT": True,
        "GPL-3.0": False,
        "GPL-3.0/MIT": True,
        "MIT AND GPL-3.0": False,
        "GPL-3.0 OR (MIT AND Zlib)": True,
        "(GPL-3.0 OR MIT) AND GPL-2.0": False,
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0": True,
        "Apache-2.0": False,
    }.items():
        assert is_allowed(expression, allowed) is expected, expression


def main():
    self_check()
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed, registries = set(rules["licenses"]["allow"]), set(rules["sources"]["allow-registry"])
    found = crates(rules["graph"]["targets"])
    complaints = [(crate, complaint(crate, allowed, registries)) for crate in found]
    complaints = [f"{crate['name']} {crate['version']} {text}" for crate, text in complaints if text]
    for text in complaints:
        print(text, file=sys.stderr)
    if complaints:
        sys.exit("deny.toml allows none of these: choose other crates, or allow a permissive licence there with a reason")
    print(f"{len(found)} crates, every licence and source allowed by deny.toml")


if __name__ == "__main__":
    main()
