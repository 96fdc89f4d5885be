"""Counters in the text format of Prometheus: complete, true, and in its grammar."""

from __future__ import annotations

import dataclasses
import re

import pytest

import moorage
from moorage import _prometheus
from moorage.records import DeviceStats, Stats, prometheus

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>[0-9]+)")
_LABEL = re.compile(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\\n]|\\["\\n])*)"')

_NUMBERS = [field.name for field in dataclasses.fields(Stats) if field.name not in ("attached", "register")]


def parsed(text: str) -> dict[tuple[str, str], int]:
    """(metric, store) -> value. Strict: HELP, TYPE, then all samples of a metric, each of them once."""
    assert text.endswith("\n") and "\r" not in text
    samples: dict[tuple[str, str], int] = {}
    kinds: dict[str, str] = {}
    current = helped = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped, _, words = line[7:].partition(" ")
            assert _NAME.fullmatch(helped) and words and helped not in kinds, line
        elif line.startswith("# TYPE "):
            current, _, kind = line[7:].partition(" ")
            assert current == helped and current not in kinds and kind in ("gauge", "counter"), line
            assert current.endswith("_total") == (kind == "counter"), line
            kinds[current] = kind
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample and sample["name"] == current, line
            label = _LABEL.fullmatch(sample["labels"]) if sample["labels"] is not None else None
            assert (label is None) == (sample["labels"] is None), line
            assert label is None or label["name"] == "store", line
            store = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label["value"]) if label else ""
            assert (current, store) not in samples, line
            samples[current, store] = int(sample["value"])
    return samples


def test_every_field_is_a_metric() -> None:
    assert list(_prometheus.METRICS) == _NUMBERS
    assert list(_prometheus.DEVICE_METRICS) == [field.name for field in dataclasses.fields(DeviceStats)][1:]
    names = [name for name, _, _ in (*_prometheus.METRICS.values(), *_prometheus.DEVICE_METRICS.values())]
    assert len(set(names)) == len(names)


def test_the_figures_are_those_of_stats(store: moorage.Store) -> None:
    store.put("a", bytes(1000))
    store.get("a")
    store.get("b")
    stats = store.stats()
    samples = parsed(stats.prometheus())
    assert len(samples) == len(_NUMBERS)
    for field, (name, _, _) in _prometheus.METRICS.items():
        assert samples[f"moorage_{name}", ""] == getattr(stats, field), field
    assert samples["moorage_puts_total", ""] == 1 and samples["moorage_misses_total", ""] == 1


@pytest.mark.parametrize("name", ["weights", 'quo"te', "back\\slash", "two\nlines", "käse", "}{,= #", "\\n"])
def test_the_name_of_a_store_is_a_label(store: moorage.Store, name: str) -> None:
    assert parsed(store.stats().prometheus(name))["moorage_objects", name] == 0


def test_devices_have_labels_of_their_own(store: moorage.Store) -> None:
    stats = dataclasses.replace(store.stats(), attached=(DeviceStats('m"0', 1, 2, 3, 4), DeviceStats("m1", 5, 6, 7, 8)))
    lines = prometheus({"a": stats, "": stats}).splitlines()
    assert lines[-1] == 'moorage_device_register_nanoseconds_total{device="m1"} 8'
    assert 'moorage_device_registered_bytes{store="a",device="m\\"0"} 2' in lines
    assert "moorage_device" not in store.stats().prometheus().replace("moorage_devices", "").replace(
        "moorage_device_registrations_total", ""
    )


def test_several_stores_in_one_answer(store: moorage.Store) -> None:
    with moorage.Store("1MiB") as other:
        other.put("k", b"v")
        samples = parsed(prometheus({"a": store.stats(), "b": other.stats()}))
    assert (samples["moorage_objects", "a"], samples["moorage_objects", "b"]) == (0, 1)
    assert prometheus({}).count("# TYPE") == len(_prometheus.METRICS)

