"""`moorage kv-bench verify RESULT.json`: are the figures those of the records, and do the sums hold?"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

from . import compare, dedup, ranks, records, twin
from .distributions import NoHistogram
from .figures import TIERS, figures, summary
from .records import OpRecord, RequestRecord
from .result import (
    FORMAT,
    FORMAT_COMPARED,
    FORMAT_RANKS,
    Names,
    headline,
    histograms,
    median_trial,
    over_trials,
    sha256,
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="moorage kv-bench verify", description=__doc__)
    parser.add_argument("result", metavar="RESULT.json")
    path = parser.parse_args(arguments).result
    try:
        found = problems(path)
    except (OSError, ValueError, KeyError, TypeError, NoHistogram) as error:
        print(f"moorage kv-bench verify: {path}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for text in found:
        print(f"WRONG  {text}")
    if not found:
        print(f"ok: every figure of {path} follows from its records, and host + device = total in each of them")
    return 1 if found else 0


def problems(path: str) -> list[str]:
    """What does not hold; nothing when all does."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if content.get("format") == FORMAT_COMPARED:
        return _compared(content)
    if content.get("format") == FORMAT_RANKS:
        return _ranks(path, content)
    if content.get("format") != FORMAT:
        raise ValueError(f"its format is {content.get('format')!r}, not {FORMAT!r}")
    wrong: list[str] = []
    heads = []
    for i, trial in enumerate(content["trials"]):
        heads.append(_trial(path, i, trial, content["qos_targets_ms"], wrong))
    _same("headlines", content["headlines"], over_trials(heads), wrong)
    chosen = content["summary_of_trial"]
    if chosen != median_trial(heads):
        wrong.append(f"summary_of_trial is {chosen}, the one in the middle is {median_trial(heads)}")
    one = content["trials"][chosen]
    entries = {tier: one["facts"].get("entries", {}).get(tier, 0) for tier in TIERS}
    if content["dedup"]:
        _same("dedup.verdict", content["dedup"]["verdict"], dedup.verdict(content["dedup"]["kinds"]), wrong)
    fio = content["fio"]
    _same("fio.beside", fio["beside"], _plain(twin.beside(one["figures"], fio["ran"])), wrong)
    _same("summary", content["summary"], summary(one["figures"], entries), wrong)
    return wrong


def _trial(path: str, i: int, trial: dict[str, Any], targets: dict[str, float], wrong: list[str]) -> dict[str, Any]:
    names = Names(path)
    for name, digest in trial["records"].items():
        if sha256(os.path.join(os.path.dirname(path), name)) != digest:
            wrong.append(f"trial {i}: {name} was changed after it was written")
    ops = records.read(names.ops(i), OpRecord)
    requests = records.read(names.requests(i), RequestRecord)
    first, last = trial["facts"]["window_ns"]
    for op in ops:
        if not op.t0 <= op.t1 <= op.t2 <= op.t3 or op.host + op.device != op.total:
            wrong.append(f"trial {i}: the stamps of {op.request} {op.key} cannot be: {op.t0} {op.t1} {op.t2} {op.t3}")
        elif op.copy + op.verify > op.host:
            wrong.append(f"trial {i}: {op.request} {op.key} copies and verifies longer than host")
    computed = _plain(figures(ops, requests, (first, last), targets))
    _same(f"trial {i}: figures", trial["figures"], computed, wrong)
    _same(f"trial {i}: histograms", trial["histograms"], histograms(ops, (first, last)), wrong)
    head = headline(computed, trial["facts"])
    _same(f"trial {i}: headline", trial["headline"], head, wrong)
    return head


def _ranks(path: str, content: dict[str, Any]) -> list[str]:
    """Each rank's result, and what they give together."""
    wrong, results = [], []
    for name in content["results"]:
        one = os.path.join(os.path.dirname(path), name)
        wrong += [f"{name}: {text}" for text in problems(one)]
        with open(one, encoding="utf-8") as file:
            results.append(json.load(file))
    for name, value in _plain(ranks.together(results)).items():
        _same(name, content[name], value, wrong)
    return wrong


def _compared(content: dict[str, Any]) -> list[str]:
    wrong = _compared_once("compare", content["compare"], content["raw"])
    if content["raw_tmpfs"]:
        wrong += _compared_once("compare_tmpfs", content["compare_tmpfs"], content["raw_tmpfs"])
    return wrong


def _compared_once(where: str, written: dict[str, Any], raw: dict[str, Any]) -> list[str]:
    wrong: list[str] = []
    found = compare.from_raw(raw)
    for depth, rows in found.rows.items():
        for row in rows:
            if any(host < 0 for host in row.all("host")):
                wrong.append(f"{row.title}, {depth} at a time: device is longer than total")
    _same(where, written, _plain(compare.content(found)), wrong)
    return wrong


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _same(where: str, written: Any, computed: Any, wrong: list[str]) -> None:
    if isinstance(computed, dict) and isinstance(written, dict):
        for key in computed.keys() | written.keys():
            _same(f"{where}.{key}", written.get(key, "nothing"), computed.get(key, "nothing"), wrong)
    elif isinstance(computed, (list, tuple)) and isinstance(written, (list, tuple)) and len(computed) == len(written):
        for n, (a, b) in enumerate(zip(written, computed)):
            _same(f"{where}[{n}]", a, b, wrong)
    elif isinstance(computed, float) and isinstance(written, (int, float)):
        if not math.isclose(written, computed, rel_tol=1e-9, abs_tol=1e-12):
            wrong.append(f"{where} is written as {written}, and computed as {computed}")
    elif written != computed:
        wrong.append(f"{where} is written as {written!r}, and computed as {computed!r}")
