"""Jobs: work that nobody waits for; queues, cancel and acknowledgement, asyncio, fork, the end of the interpreter."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import random
import select
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest
from children import in_child
from conftest import eventually

import moorage
from moorage import _flight


def has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


needs_torch = pytest.mark.skipif(not has_torch(), reason="probed torch: it is not installed")


@pytest.fixture(autouse=True)
def nothing_in_flight():
    yield
    assert not _flight.flights, "memory is still lent to the library"


def readable(queue) -> bool:
    return bool(select.select([queue], [], [], 0)[0])


def drain_all(queue, job):
    """Everything that a queue tells of a job, by polling."""
    found = []
    while not (found and found[-1].last):
        assert select.select([queue], [], [], 20)[0]
        found += queue.drain()
    assert {one.job for one in found} == {job}
    return found


# ---- each kind ----


def test_put_and_get_of_each_kind(store):
    data = {"a": b"a" * 100, "b": np.arange(50_000, dtype=np.int32), "c": memoryview(b"x.y.z.")[::2]}
    assert store.submit_put(data, meta=b"m").results() == [True] * 3
    assert store.get("c") == b"xyz" and store.get("b") == data["b"].tobytes()
    assert store.describe("a").meta == b"m" and store.describe("b").dtype is None

    arrays = {"i": np.arange(6).reshape(2, 3), "t": np.arange(6.0).reshape(2, 3).T, "e": np.empty((0, 3))}
    arrays["s"] = np.float16(3)
    assert store.submit_put_tensors(arrays).results() == [True] * 4
    got = store.submit_get(arrays, kind="array").results()
    for array, wanted in zip(got, arrays.values()):
        assert array.dtype == wanted.dtype and array.shape == wanted.shape
        np.testing.assert_array_equal(array, wanted)
        assert not array.flags.writeable
    own = store.submit_get(["i"], kind="array", mode="copy").results()[0]
    own[0, 0] = 7
    with store.submit_get(["a"], kind="buffer").results()[0] as held:
        assert bytes(held) == data["a"] and held.meta == b"m"
    del got, array

    assert store.submit_exists(["a", "none", "b"]).results() == [True, False, True]
    assert store.prefetch(["a", "none"]).results() == [True, False]
    assert store.submit_remove(["a", "none"], missing_ok=True).results() == [True, False]
    with pytest.raises(moorage.NotFoundError, match="'none'") as caught:
        store.submit_remove(["b", "none"]).results()
    assert caught.value.results[0] is True and str(caught.value.results[1]) == str(caught.value)
    with pytest.raises(moorage.UnsupportedError, match="disk"):
        store.submit_persist(["c"]).results()


@needs_torch
def test_tensors(store):
    import torch

    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(40_000, dtype=torch.bfloat16).reshape(200, 200).T}
    assert store.submit_put_tensors(tensors, if_exists="raise").results() == [True, True]
    job = store.submit_get(["b", "a"])
    b, a = job.results()
    assert torch.equal(a, tensors["a"]) and torch.equal(b, tensors["b"]) and b.dtype == torch.bfloat16
    a += 1  # cow
    assert torch.equal(store.get_tensor("a"), tensors["a"])
    assert job.results()[1] is a, "taken over once"
    view = store.submit_get(["a"], mode="view").results()[0]
    assert view.data_ptr() == store.get_tensor("a", mode="view").data_ptr(), "no copy"
    job.close()
    del job, view
    assert torch.equal(b, tensors["b"])


@needs_torch
def test_tensors_as_old_torch_takes_them(store, monkeypatch):
    import torch

    from moorage import torch as ours

    store.put_tensor("a", torch.arange(5))
    monkeypatch.setattr(ours, "HAS_DLPACK_1", False)
    assert torch.equal(store.submit_get(["a"]).results()[0], torch.arange(5))


@needs_torch
def test_get_into_tells_autograd(store):
    import torch

    store.put("k", bytes(16))
    out = torch.ones(4, requires_grad=False)
    version = out._version
    assert store.submit_get_into({"k": out}).results() == [16]
    assert out.sum() == 0 and out._version > version


def test_get_into(store):
    store.put("k", bytes(range(100)))
    whole, head, tail = bytearray(100), bytearray(3), np.zeros(4, np.uint8)
    job = store.submit_get_into([("k", whole), ("k", [head, tail])], offsets=[0, 10], nbytes=[None, 5])
    assert job.results() == [100, 5]
    assert whole == bytes(range(100)) and head == bytes([10, 11, 12]) and tail.tolist() == [13, 14, 0, 0]
    small = bytearray(b"." * 50)
    outcomes = store.submit_get_into([("k", small), ("none", small), ("k", small)], offsets=[0, 0, 90]).outcomes()
    assert [type(one) for one in outcomes] == [moorage.TooSmallError, moorage.NotFoundError, int]
    assert small == bytes(range(90, 100)) + b"." * 40
    with pytest.raises(moorage.ReadOnlyError):
        store.submit_get_into({"k": bytes(100)})
    view = store.get_array("k")
    raw = np.frombuffer(view, np.uint8)
    raw_again = np.lib.stride_tricks.as_strided(raw)
    with pytest.raises(moorage.ReadOnlyError):
        store.submit_get_into({"k": raw_again})
    small.append(1)  # no loan is left on it


def test_meta_if_exists_and_atomic(store):
    store.put("a", b"old")
    assert store.submit_put({"a": b"new", "b": b"new"}, if_exists="keep").results() == [False, True]
    failed = store.submit_put({"c": b"1", "a": b"2"}, if_exists="raise", atomic=True).outcomes()
    assert [type(one) for one in failed] == [moorage.ExistsError] * 2 and "c" not in store
    assert store.submit_put_tensors({"c": np.ones(3), "d": np.ones(4)}, atomic=True).results() == [True, True]
    too_large = store.submit_put([("e", bytes(10)), ("f", np.broadcast_to(np.uint8(1), 1 << 40))]).outcomes()
    assert too_large[0] is True and isinstance(too_large[1], moorage.CapacityError)


def test_order_and_timings(store):
    keys = [f"k{i}" for i in range(300)]
    store.put_tensors({key: np.full(4, i) for i, key in enumerate(keys)})
    job = store.submit_get(keys, kind="array")
    assert [int(one[0]) for one in job.results()] == list(range(300))
    assert job.keys == keys and len(job) == 300 and job.done
    assert all(one.wait_ns > 0 and one.run_ns > 0 for one in job.timings())
    assert "300 keys, done" in repr(job)


def test_no_keys(store):
    job = store.submit_get([], kind="array")
    assert job.results(timeout=10) == [] and bool(job) and job.timings() == []
    queue = moorage.JobQueue()
    empty = store.submit_put({}, queue=queue)
    (only,) = drain_all(queue, empty)
    assert only == (empty, -1, None, None, None, True)


# ---- refusals ----


def test_what_is_refused(store):
    with pytest.raises(TypeError, match="several keys"):
        store.submit_get("key", kind="array")
    with pytest.raises(TypeError, match="must be a str"):
        store.submit_exists([1])
    with pytest.raises(moorage.InvalidArgumentError, match="kind"):
        store.submit_get(["k"], kind="bytes")
    with pytest.raises(moorage.InvalidArgumentError, match="mode"):
        store.submit_get(["k"], kind="array", mode="none")
    with pytest.raises(moorage.InvalidArgumentError, match="keys"):
        store.prefetch([""])
    with pytest.raises(TypeError, match="queue must be"):
        store.prefetch(["k"], queue=3)
    with pytest.raises(TypeError, match="'k' is a str"):
        store.submit_put({"k": "text"})
    with pytest.raises(TypeError, match="buffer protocol"):
        store.submit_put({"j": b"1", "k": 3})
    with pytest.raises(TypeError, match="tensor of key 'k'"):
        store.submit_put_tensors({"k": b"no tensor"})
    with pytest.raises(moorage.InvalidArgumentError, match="if_exists"):
        store.submit_put({"k": b""}, if_exists="always")
    with pytest.raises(moorage.InvalidArgumentError, match="meta"):
        store.submit_put({"k": b""}, meta=bytes(5000))
    with pytest.raises(TypeError, match="pair"):
        store.submit_put([1])
    room = bytearray(8)
    with pytest.raises(TypeError, match="each out of items"):
        store.submit_get_into([("k", room), ("k", 3)])
    with pytest.raises(moorage.InvalidArgumentError, match="offsets has 1"):
        store.submit_get_into([("k", room), ("k", room)], offsets=[1])
    with pytest.raises(TypeError, match="each of nbytes"):
        store.submit_get_into([("k", room)], nbytes=["8"])
    room.append(1)  # nothing of it is lent
    released = memoryview(b"abc")
    released.release()
    for call in (
        lambda: store.prefetch(released),
        lambda: store.submit_put(released),
        lambda: store.submit_get_into([("k", room)], offsets=released),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    with pytest.raises(moorage.InvalidArgumentError, match="65536"):
        store.prefetch(f"{i}" for i in range(65537))
    job = store.prefetch(["k"])
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(job)
    with pytest.raises(TypeError, match="timeout"):
        job.wait("1")
    job.wait()
    assert len(store) == 0


def test_a_store_that_is_full_of_jobs(store):
    store.put("k", bytes(4 << 20))
    room = bytearray(4 << 20)
    job = store.submit_get_into([("k", room)] * 65536)  # a quarter of a terabyte
    with pytest.raises(moorage.BusyError, match="unfinished") as caught:
        while True:
            assert store.prefetch(["k"] * 1000).done or not job.done
    assert isinstance(caught.value, BlockingIOError)
    job.cancel()
    job.wait()
    assert store.prefetch(["k"]).results() == [True]


def test_closed_things(store, open_store):
    other = open_store("1MiB")
    other.put("k", b"1234")
    got, queue = other.submit_get(["k"], kind="array"), moorage.JobQueue()
    got.wait()
    other.close()
    assert got.results()[0].tobytes() == b"1234", "views outlive their store, those of jobs too"
    with pytest.raises(moorage.ClosedError):
        other.prefetch(["k"])
    with pytest.raises(moorage.ClosedError):
        other.submit_put({"k": bytearray(3)}, queue=queue)
    assert not queue._jobs
    queue.close()
    queue.close()
    assert queue.closed and "closed" in repr(queue)
    with pytest.raises(moorage.ClosedError, match="queue"):
        queue.drain()
    with pytest.raises(moorage.ClosedError, match="queue"):
        store.prefetch(["k"], queue=queue)
    store.put("k", b"1234")
    job = store.submit_get(["k"], kind="array")
    job.wait()
    job.close()
    job.close()
    with pytest.raises(moorage.ClosedError, match="job"):
        job.results()
    with pytest.raises(moorage.ClosedError, match="job"):
        job.timings()
    del got


# ---- queues ----


def test_a_queue_of_ones_own(store):
    store.put_tensors({"a": np.arange(3), "b": np.arange(4)})
    with moorage.JobQueue() as queue:
        assert not readable(queue) and queue.drain() == []
        job = store.submit_get(["a", "none", "b"], kind="array", queue=queue)
        found = drain_all(queue, job)
        assert not readable(queue) and job.queue is queue and job.fileno() == queue.fileno()
        by_number = {one.number: one for one in found}
        assert sorted(by_number) == [0, 1, 2] and [one.last for one in found] == [False, False, True]
        assert by_number[0].value.tolist() == [0, 1, 2] and by_number[0].error is None and by_number[0].key == "a"
        assert by_number[1].value is None and isinstance(by_number[1].error, moorage.NotFoundError)
        assert job.outcomes()[2] is by_number[2].value
        store.prefetch(["a"] * 10, queue=queue).wait()
        assert [len(queue.drain(4)), readable(queue), len(queue.drain(4)), len(queue.drain(0))] == [4, True, 4, 0]
        assert len(queue.drain(max=100)) == 2 and not readable(queue)
        assert not queue._jobs, "it keeps no job whose last key was drained"
        with pytest.raises(TypeError):
            queue.drain("all")
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(queue)
        del found, by_number, job


def test_a_queue_with_epoll_for_many_jobs_of_two_stores(store, open_store):
    other = open_store("4MiB")
    with moorage.JobQueue() as queue, select.epoll() as poll:
        poll.register(queue, select.EPOLLIN)
        held = {(store, other)[i % 2].submit_put({f"{i}": b"x" * i}, queue=queue): i for i in range(200)}
        seen = set()
        while len(seen) < 200:
            assert poll.poll(20)
            for one in queue.drain(17):
                assert one.error is None and one.last and one.key == f"{held[one.job]}"
                seen.add(one.job)
        assert not poll.poll(0)
    assert len(store) == len(other) == 100


def test_drained_in_another_thread_while_submitting(store):
    """A completion may come before the submission has returned."""
    store.put("k", b"k")
    told = []
    with moorage.JobQueue() as queue:

        def drain():
            end = time.monotonic() + 30
            while len(told) < 500 and time.monotonic() < end:
                told.extend(queue.drain())

        thread = threading.Thread(target=drain)
        thread.start()
        for _ in range(500):
            store.submit_get(["k"], kind="buffer", queue=queue)
        thread.join()
    assert len(told) == 500 and all(one.error is None and bytes(one.value) == b"k" for one in told)


def test_several_threads_drain_one_queue(store):
    store.put("k", b"k")
    told, lock = [], threading.Lock()
    with moorage.JobQueue() as queue:

        def drain():
            end = time.monotonic() + 30
            while len(told) < 6400 and time.monotonic() < end:
                some = queue.drain(5)
                with lock:
                    told.extend(some)

        threads = [threading.Thread(target=drain) for _ in range(3)]
        for thread in threads:
            thread.start()
        held = [store.submit_get(["k"] * 64, kind="buffer", queue=queue) for _ in range(100)]
        for thread in threads:
            thread.join()
        assert len(told) == 6400 and sum(one.last for one in told) == 100 and not queue._jobs
    assert {one.job for one in told} == set(held) and all(bytes(one.value) == b"k" for one in told)


class Connector:
    """Storage as inference engines ask for it: a descriptor, batches with a number, and a bool for each key."""

    def __init__(self, store):
        self._store, self._queue, self._numbers = store, moorage.JobQueue(), {}

    def event_fd(self):
        return self._queue.fileno()

    def _taken(self, job):
        self._numbers[job] = len(self._numbers)
        return self._numbers[job]

    def submit_batch_get(self, keys, views):
        return self._taken(self._store.submit_get_into(zip(keys, views), queue=self._queue))

    def submit_batch_set(self, keys, views):
        return self._taken(self._store.submit_put(zip(keys, views), queue=self._queue))

    def submit_batch_exists(self, keys):
        return self._taken(self._store.submit_exists(keys, queue=self._queue))

    def submit_batch_delete(self, keys):
        return self._taken(self._store.submit_remove(keys, missing_ok=True, queue=self._queue))

    def drain_completions(self):
        done = [told.job.outcomes() for told in self._queue.drain() if told.last]
        return [self._judged(outcomes) for outcomes in done]

    def _judged(self, outcomes):
        errors = [str(one) for one in outcomes if isinstance(one, Exception)]
        each = [not isinstance(one, Exception) and one is not False for one in outcomes]
        return not errors, (errors or [""])[0], each

    def close(self):
        self._queue.close()


def test_what_an_engine_needs_is_a_few_lines(store):
    connector = Connector(store)

    def finished():
        assert select.select([connector.event_fd()], [], [], 20)[0]
        return connector.drain_completions()

    def one():
        found = []
        while not found:
            found = finished()
        return found

    blocks = [memoryview(bytearray([i] * 4096)) for i in range(8)]
    keys = [f"model@0@{i}" for i in range(8)]
    assert connector.submit_batch_set(keys, blocks) == 0
    assert one() == [(True, "", [True] * 8)]
    connector.submit_batch_exists(["model@0@0", "model@0@99"])
    assert one() == [(True, "", [True, False])]
    rooms = [memoryview(bytearray(4096)) for _ in range(9)]
    assert connector.submit_batch_get([*keys, "model@0@99"], rooms) == 2
    assert one() == [(False, "no object under key 'model@0@99'", [True] * 8 + [False])]
    assert rooms[:8] == blocks
    connector.submit_batch_delete([*keys, "model@0@99"])
    assert one() == [(True, "", [True] * 8 + [False])]
    connector.close()


# ---- cancel, acknowledgement, memory ----


class Source(bytearray):
    """A bytearray that can be watched."""


def test_sources_live_until_the_acknowledgement_and_no_longer(store):
    sources = [Source(1 << 20) for _ in range(40)]
    watched = [weakref.ref(one) for one in sources]
    with moorage.JobQueue() as queue:  # which nobody drains: only the job is asked
        job = store.submit_put({f"{i}": one for i, one in enumerate(sources)}, queue=queue)
        del sources
        if not job.done:
            assert any(one() is not None for one in watched)
        job.wait()
        assert all(one() is None for one in watched)
        assert all(one is True for one in job.outcomes())


def test_a_put_that_was_dropped_goes_on_and_its_source_with_it(store):
    source = Source(b"s" * (8 << 20))
    watched = weakref.ref(source)
    store.submit_put({"k": source})
    del source
    store.wait(["k"], 20)
    assert store.get("k") == b"s" * (8 << 20)
    assert eventually(lambda: store.prefetch([]).done and watched() is None), "the next job lets it go"


@pytest.mark.parametrize("end", ["close", "drop"])
def test_a_queue_that_ends_first_gives_its_sources_back(store, end):
    source = Source(b"s" * (8 << 20))
    watched = weakref.ref(source)
    queue = moorage.JobQueue()
    job = store.submit_put([("k", source)] * 20, queue=queue)
    store.prefetch(["k"], queue=queue)
    if end == "close":
        queue.close()
        assert job.results() == [True] * 20
    del source, job, queue
    gc.collect()
    assert eventually(lambda: store.prefetch([]).done and watched() is None and not _flight.strays)
    assert store.get("k") == b"s" * (8 << 20)


def test_a_store_that_was_dropped_gives_its_sources_back(store, open_store):
    other = moorage.Store("64MiB")
    source = Source(b"s" * (8 << 20))
    watched = weakref.ref(source)
    job = other.submit_put([("k", source)] * 20)
    del source, other
    job.wait(20)
    del job
    assert eventually(lambda: store.prefetch([]).done and watched() is None and not _flight.strays)


def test_a_get_that_was_dropped_lets_go(store):
    store.put("k", bytes(1 << 20))
    job = store.submit_get(["k"] * 10, kind="array")
    job.wait()
    assert store.borrows()[0].views == 10
    kept = job.results()[3]
    del job
    assert store.borrows()[0].views == 1
    for _ in range(100):
        store.submit_get(["k"] * 20, kind="array")
    assert eventually(lambda: store.borrows()[0].views == 1)
    del kept
    assert eventually(lambda: store.prefetch([]).done)


def test_cancel(store):
    source = bytearray(b"x" * (4 << 20))
    job = store.submit_put([("k", source)] * 200)
    job.cancel()
    job.cancel()
    job.wait()
    outcomes = job.outcomes()
    cancelled = [one for one in outcomes if isinstance(one, moorage.CancelledError)]
    assert len(cancelled) > 100 and set(map(type, outcomes)) <= {bool, moorage.CancelledError}
    assert "begun" in str(cancelled[0]) and isinstance(cancelled[0], InterruptedError)
    source.append(1)  # ours again
    with pytest.raises(moorage.CancelledError) as caught:
        job.results()
    assert caught.value.results == outcomes


def test_cancel_at_random_moments(store):
    """Sources and destinations are written over as soon as a job is done: whatever is stored, or read, is whole."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    r = random.Random(seed)
    failures = []

    def work(r):
        try:
            for _ in range(60):
                letter, size = r.choice(b"abcdef"), r.randrange(1, 300_000)
                key = chr(letter)
                if r.random() < 0.6:
                    memory = bytearray([letter]) * size
                    job = store.submit_put([(key, memory)] * r.randrange(1, 4))
                else:
                    memory = bytearray(b"." * 300_000)
                    job = store.submit_get_into([(key, memory)])
                if r.random() < 0.5:
                    time.sleep(r.random() * 1e-4)
                    job.cancel()
                outcomes = job.outcomes()
                if isinstance(outcomes[0], int) and outcomes[0] is not True:
                    assert memory[: outcomes[0]] == bytes([letter]) * outcomes[0]
                memory[:] = b"!" * len(memory)
                memory.append(0)
                held = store.submit_get([key], kind="buffer").outcomes()[0]
                if isinstance(held, moorage.Buffer):
                    assert set(bytes(held)) == {letter}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(random.Random(r.random()),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_closing_the_store_ends_all_jobs(open_store):
    for _ in range(5):
        store = open_store("16MiB")
        source = bytearray(b"x" * (1 << 20))
        store.put("k", source)
        held = [store.submit_put({"k": source}) for _ in range(50)]
        held += [store.submit_get(["k"], kind="array") for _ in range(50)]
        store.close()
        for job in held:
            (outcome,) = job.outcomes(timeout=20)
            assert outcome is True or isinstance(outcome, (np.ndarray, moorage.CancelledError))
        source.append(1)
        del outcome, job, held


def test_wait_has_a_timeout(store):
    job = store.submit_put([("k", bytes(4 << 20))] * 200)
    with pytest.raises(moorage.WaitTimeoutError, match="200 keys"):
        job.wait(0)
    with pytest.raises(moorage.WaitTimeoutError):
        job.timings()
    assert "not done" in repr(job) or job.done
    job.cancel()
    job.wait(20)


def test_debug_mode_says_who_took_it(open_store):
    store = open_store("1MiB", debug=True)
    store.put_tensor("k", np.arange(3))
    held = store.submit_get(["k"], kind="array").results()
    (borrow,) = store.borrows()
    assert "test_debug_mode_says_who_took_it" in borrow.traces[0]
    del held


# ---- asyncio ----


def test_await(store):
    async def main():
        await store.submit_put({"a": b"1", "b": b"2"})
        assert await store.submit_exists(["a", "b", "c"]) == [True, True, False]
        with pytest.raises(moorage.NotFoundError):
            await store.submit_get(["a", "c"], kind="array")
        several = await asyncio.gather(*[store.submit_get(["a"], kind="buffer") for _ in range(20)])
        assert [bytes(one) for (one,) in several] == [b"1"] * 20
        assert not store._submitter.own._readers

    asyncio.run(main())


@pytest.mark.performance
def test_another_coroutine_keeps_running_with_64_outstanding(store):
    data = [(f"{i}", bytes(2 << 20)) for i in range(8)]

    async def main():
        threads, ticks = threading.active_count(), 0
        held = [store.submit_put(data) for _ in range(64)]  # a gigabyte
        together = asyncio.gather(*held)
        outstanding = sum(not job.done for job in held)
        while not together.done():
            ticks += 1
            await asyncio.sleep(0)
        assert await together == [[True] * 8] * 64
        assert threading.active_count() == threads, "no thread a job"
        return outstanding, ticks

    tries = [asyncio.run(main()) for _ in range(5)]
    judged = [ticks for outstanding, ticks in tries if outstanding >= 32]
    if not judged:
        pytest.skip(
            f"probed five times: the processors are so busy that most jobs ended while they were submitted {tries}"
        )
    # A loop that each of them stopped until it is done would come round a few times for each.
    assert max(judged) > 5 * 64


def test_a_task_that_is_cancelled_waits_for_the_acknowledgement(store):
    async def main():
        source = bytearray(b"x" * (4 << 20))
        job = store.submit_put([("k", source)] * 100)

        async def waits():
            await job

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.done
        source.append(1)
        assert any(isinstance(one, moorage.CancelledError) for one in job.outcomes())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(store.submit_put([("k", bytes(4 << 20))] * 200), 0.001)

    asyncio.run(main())


def test_two_loops_and_a_thread_that_waits(store):
    """One descriptor for all of them: whoever hears of a job wakes whom it concerns."""
    failures = []

    async def rounds(n):
        for i in range(50):
            await store.submit_put({f"{n}": bytes(i * 1000)})
            assert len((await store.submit_get([f"{n}"], kind="buffer"))[0]) == i * 1000

    def blocking():
        for i in range(50):
            assert store.submit_put({"b": bytes(i)}).results(timeout=30) == [True]

    def run(what, *arguments):
        try:
            what(*arguments)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(lambda n: asyncio.run(rounds(n)), n)) for n in range(3)]
    threads.append(threading.Thread(target=run, args=(blocking,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures, failures


def test_await_beside_a_queue_that_the_loop_drains(store):
    async def main():
        with moorage.JobQueue() as queue:
            told = []
            asyncio.get_running_loop().add_reader(queue.fileno(), lambda: told.extend(queue.drain()))
            job = store.submit_put({"k": bytes(1 << 20)}, queue=queue)
            assert await asyncio.wait_for(job, 30) == [True]
            while not told:
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().remove_reader(queue.fileno())
            assert told[0].last and told[0].job is job

    asyncio.run(main())


def test_await_of_a_job_whose_queue_is_closed_meanwhile(store):
    async def main():
        queue = moorage.JobQueue()
        job = store.submit_put([("k", bytes(4 << 20))] * 50, queue=queue)
        task = asyncio.ensure_future(job)
        await asyncio.sleep(0)
        queue.close()
        assert await asyncio.wait_for(task, 30) == [True] * 50

    asyncio.run(main())


# ---- many ----


def test_ten_thousand_jobs_leave_nothing(store):
    store.put_tensors({f"{i}": np.full(10, i) for i in range(10)})
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    held = [store.submit_get([f"{i % 10}"], kind="array") for i in range(10_000)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    for i, job in enumerate(held):
        assert job.results()[0][0] == i % 10
    del held, job
    assert store.borrows() == []


# ---- fork, and the end of the interpreter ----


def test_in_a_forked_child(store):
    store.put("k", b"1234")
    with moorage.JobQueue() as queue:
        job, told = store.submit_get(["k"], kind="array"), store.submit_get(["k"], kind="array", queue=queue)
        job.wait()

        def child():
            for call in (
                lambda: store.prefetch(["k"]),
                lambda: store.submit_put({"k": b""}, queue=queue),
                job.results,
                job.cancel,
                job.timings,
                lambda: told.done,
                told.wait,
                told.results,
                queue.drain,
                moorage.JobQueue,
                lambda: asyncio.run(job._awaited()),
            ):
                with pytest.raises(moorage.ForkedError):
                    call()

        in_child(child)
        assert job.results()[0].tobytes() == b"1234"
        assert drain_all(queue, told)[0].value.tobytes() == b"1234"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )


def test_the_interpreter_ends_with_jobs_in_flight():
    for end in ("", "sys.exit()", "job.cancel()", "del job", "store.close()", "del store", "queue.close()"):
        result = run(f"""
            import sys, moorage
            store = moorage.Store("256MiB")
            queue = moorage.JobQueue()
            store.put("k", bytes(1 << 20))
            memory = [bytearray(b"x" * (8 << 20)) for _ in range(8)]
            job = store.submit_put([(str(i), memory[i % 8]) for i in range(1000)])
            other = store.submit_get_into([("k", one) for one in memory] * 100, queue=queue)
            got = store.submit_get(["k"] * 1000, kind="buffer")
            store.submit_put([(str(i), bytearray(8 << 20)) for i in range(10)])
            {end}
            print("end")
        """)
        assert result.returncode == 0 and result.stderr == "", (end, result.returncode, result.stderr)


def test_the_interpreter_ends_while_a_loop_awaits():
    result = run("""
        import asyncio, threading, moorage
        store = moorage.Store("64MiB")
        async def main():
            while True:
                await store.submit_put({"k": bytes(4 << 20)})
        thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        thread.start()
        import time
        time.sleep(0.3)
    """)
    assert result.returncode == 0, (result.returncode, result.stderr)


def test_memory_that_cannot_be_waited_for_is_never_freed(monkeypatch):
    """At the end of the interpreter: what is still lent stays."""

    class Flight:
        pass

    flight = Flight()
    watched = weakref.ref(flight)
    _flight._keep_for_ever(flight)
    del flight
    gc.collect()
    assert watched() is not None


def test_what_was_got_and_cannot_be_handed_out_is_an_outcome(store, monkeypatch):
    store.put("k", b"k")
    job = store.submit_get(["k", "none"], kind="array")
    job.wait()

    def no_memory(job, first, count, mode, buffers, statuses):
        statuses[0], statuses[1] = moorage.NoMemoryError.status, moorage.NotFoundError.status
        return 0

    monkeypatch.setattr(job._library.c, "moor_job_get_buffers", no_memory)
    outcomes = job.outcomes()
    monkeypatch.undo()
    assert [type(one) for one in outcomes] == [moorage.NoMemoryError, moorage.NotFoundError]
