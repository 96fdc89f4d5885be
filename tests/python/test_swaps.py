"""Sets of tensors that are replaced over and over while others read them: never a mixed set, and memory stays flat."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from contextlib import closing

import pytest

np = pytest.importorskip("numpy")

KEYS = [f"set/{i:03}" for i in range(200)]
SWAPS = 1000
READERS = 4


def generation(n):
    """Two hundred tensors of several sizes, all of whose elements say to which generation they belong."""
    return {key: np.full(16 << (i % 8), n, np.int64) for i, key in enumerate(KEYS)}


class Readers:
    """Threads that read until `stop`. `read()` gives arrays that belong together: all of their elements must be equal,
    and rise from one read to the next.
    """

    def __init__(self, *reads):
        self._stop = threading.Event()
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(2e-4)  # else the writer waits for every reader, again and again
        self.counts = [0] * len(reads)
        self.failures = []
        self._threads = [threading.Thread(target=self._run, args=each) for each in enumerate(reads)]
        for thread in self._threads:
            thread.start()

    def _run(self, i, read):
        last = -1
        try:
            while not self._stop.wait(0.004):  # about as often as there is a new generation
                seen = {int(n) for array in read() for n in (array[0], array[-1])}
                assert len(seen) == 1, f"reader {i}: a set of several generations: {sorted(seen)}"
                (now,) = seen
                assert now >= last, f"reader {i}: generation {now} after {last}"
                last = now
                self.counts[i] += 1
        except BaseException as error:
            self.failures.append(error)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        sys.setswitchinterval(self._interval)
        if self.failures:
            raise self.failures[0]
        assert min(self.counts) > 0, self.counts


def of_keys(store):
    with closing(store.snapshot(KEYS)) as snapshot:
        return [np.frombuffer(snapshot.get_buffer(key), np.int64) for key in KEYS]


def of_prefix(store):
    with closing(store.snapshot(prefix="set/")) as snapshot:
        return [np.frombuffer(snapshot.get_buffer(key), np.int64) for key in snapshot]


def memory(store):
    gc.collect()
    stats = store.stats()
    return stats.used, stats.metadata, stats.borrowed_objects


def test_a_thousand_swaps_of_two_hundred_keys(store):
    store.put_tensors(generation(0), atomic=True)
    base = memory(store)
    readers = Readers(*itertools.islice(itertools.cycle([lambda: of_keys(store), lambda: of_prefix(store)]), READERS))
    marks = []
    try:
        for n in range(1, SWAPS + 1):
            assert store.put_tensors(generation(n), atomic=True) == dict.fromkeys(KEYS, True)
            if n % 100 == 0:
                marks.append(store.stats().resident)
    finally:
        readers.stop()
    assert {int(store.get_array(key)[0]) for key in KEYS} == {SWAPS}
    used, metadata, borrowed = memory(store)
    assert (used, borrowed) == (base[0], 0)
    assert metadata <= 2 * base[1]
    # Each reader may hold a generation, and the writer has two.
    assert max(marks) <= (READERS + 3) * base[0], (marks, base)
    print("reads", readers.counts)


def test_batches_see_a_set_whole(store):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    store.put_tensors(generation(0), atomic=True)
    readers = Readers(lambda: store.get_tensors(KEYS, mode="view"), lambda: store.get_tensors(KEYS))
    try:
        for n in range(1, 200):
            store.put_tensors(generation(n), atomic=True)
    finally:
        readers.stop()


def test_state_dicts_whose_names_change(store):
    """What is read is of one generation, also when the next one has other tensors, and the old ones are removed."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)

    def publish(n):
        names = [f"t{i}" for i in range(n % 3, 60, n % 5 + 1)]
        store.put_state_dict({"n": n, "names": names, **{name: torch.full((2048,), n) for name in names}}, "sd/")

    def read():
        sd = store.get_state_dict("sd/", mode="view")
        n, names = sd.pop("n"), sd.pop("names")
        assert list(sd) == names
        return [np.full(2, n), *(t.numpy() for t in sd.values())]

    publish(0)
    readers = Readers(read, read)
    try:
        for n in range(1, 500):
            publish(n)
    finally:
        readers.stop()
    assert len(store) == len(store.get_state_dict("sd/")) - 2 + 1


def test_two_who_publish_the_same_prefix(store):
    """Whoever comes later has the last word; what one of them removes is never of the other."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    failures = []

    def publish(first):
        try:
            for n in range(200):
                names = [f"t{i}" for i in range((first + n) % 7, 20, 3)]
                store.put_state_dict({name: torch.full((8,), n) for name in names}, "sd/")
                store.get_state_dict("sd/")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=(first,)) for first in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert len(store) == len(store.get_state_dict("sd/")) + 1
