"""DataLoader workers that read what their parent has stored, through a snapshot, while the parent goes on."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any

import pytest
from children import eventually
from pressure import overwrite_free
from programs import run_prepared

import moorage

torch = pytest.importorskip("torch")
data = torch.utils.data

COUNT, WIDTH = 48, 40_000  # floats a sample: large enough for a window


def sample(i: int) -> Any:
    return torch.arange(WIDTH, dtype=torch.float32) + i


class Ordinary(data.Dataset):  # type: ignore[misc, name-defined]
    """What everything here is compared with."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, i: int) -> Any:
        return sample(i).mul_(2), i


class Cached(Ordinary):
    def __init__(self, samples: moorage.Snapshot, begin: Any = None) -> None:
        self.samples = samples
        self.begin = begin  # set when the workers may read

    def __getitem__(self, i: int) -> Any:
        if self.begin is not None:
            assert self.begin.wait(30)
        x = self.samples[f"train/{i}"]
        if self.samples._mode == moorage._abi.MODES["view"]:
            return x * 2, i
        return x.mul_(2), i  # in place: nobody else sees it


@pytest.fixture(scope="module", autouse=True)
def helpers_of_multiprocessing() -> None:
    """It starts them once, and keeps a descriptor to each."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()


@pytest.fixture(params=["cow", "view", "copy"])
def store(request: pytest.FixtureRequest) -> Iterator[moorage.Store]:
    with moorage.Store("32MiB", mode=request.param) as opened:
        opened.put_tensors({f"train/{i}": sample(i) for i in range(COUNT)}, atomic=True)
        yield opened
        gc.collect()
        eventually(lambda: opened.stats().children == 0 and opened.stats().held_bytes == 0)
        assert opened.borrows() == []


def load(dataset: Any, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    return data.DataLoader(
        dataset, batch_size=5, shuffle=True, generator=generator, num_workers=2, pin_memory=False,
        multiprocessing_context="fork", timeout=60, **options,
    )  # fmt: skip


def equal(loader: Any, epochs: int = 1) -> bool:
    """Whether these epochs are those of an ordinary dataset."""
    ordinary = load(Ordinary())
    for _ in range(epochs):
        batches = list(loader)
        expected = list(ordinary)
        if len(batches) != len(expected):
            return False
        for (x, i), (y, j) in zip(batches, expected):
            if not torch.equal(x, y) or not torch.equal(i, j):
                return False
    return True


def test_an_epoch_is_that_of_an_ordinary_dataset(store: moorage.Store) -> None:
    with store.snapshot(prefix="train/") as samples:
        assert equal(load(Cached(samples)), epochs=2)
        assert torch.equal(samples["train/3"], sample(3))


def test_the_parent_replaces_and_removes_meanwhile(store: moorage.Store) -> None:
    begin = torch.multiprocessing.get_context("fork").Event()
    samples = store.snapshot(prefix="train/")
    batches = iter(load(Cached(samples, begin)))  # the workers are there now, and wait
    samples.close()
    for i in range(COUNT):
        if i % 2:
            store.put_tensor(f"train/{i}", torch.zeros(WIDTH))
        else:
            store.remove(f"train/{i}")
    store.clear()
    store.trim()
    overwrite_free(store)
    begin.set()
    assert all(torch.equal(x, y) and torch.equal(i, j) for (x, i), (y, j) in zip(batches, load(Ordinary())))
    del batches


def test_workers_that_stay_over_epochs(store: moorage.Store) -> None:
    samples = store.snapshot(prefix="train/")
    loader = load(Cached(samples), persistent_workers=True)
    assert equal(loader)
    store.put_tensors({f"train/{i}": torch.zeros(WIDTH) for i in range(COUNT)}, atomic=True)
    # New ones would read the new samples; these have what they had.
    ordinary = Ordinary()
    for x, numbers in loader:
        assert torch.equal(x, torch.stack([ordinary[int(n)][0] for n in numbers]))
    with store.snapshot(prefix="train/") as newer:
        assert all(not x.any() for x, _ in load(Cached(newer)))
    samples.close()
    del loader


def test_a_worker_that_is_killed() -> None:
    """In a process of its own: torch raises the failure wherever the parent is when it hears of it."""
    ended = run_prepared(
        """
        import gc, os, signal, time, torch, moorage
        torch.set_num_threads(1)

        class Cached(torch.utils.data.Dataset):
            def __init__(self, samples, fatal):
                self.samples, self.fatal = samples, fatal
            def __len__(self):
                return 40
            def __getitem__(self, i):
                if i == self.fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                return self.samples[f"train/{i}"].mul_(2)

        def load(fatal):
            return torch.utils.data.DataLoader(Cached(samples, fatal), num_workers=2, multiprocessing_context="fork")

        store = moorage.Store("32MiB")
        store.put_tensors({f"train/{i}": torch.full((40_000,), float(i)) for i in range(40)}, atomic=True)
        samples = store.snapshot(prefix="train/")
        try:
            for _ in load(7):
                pass
        except (RuntimeError, OSError, EOFError) as error:  # the second: it died while it handed a batch over
            print(not isinstance(error, RuntimeError) or "DataLoader worker" in str(error))
        while True:
            try:
                gc.collect()  # the other worker
                break
            except (RuntimeError, OSError, EOFError):
                pass
        print(all(bool((samples[f"train/{i}"] == i).all()) for i in range(40)))
        print(all(bool((x == 2 * i).all()) for i, x in enumerate(load(None))))
        samples.close()
        store.clear()
        end = time.monotonic() + 30
        while store.stats().used and time.monotonic() < end:
            gc.collect()
            time.sleep(0.01)
        print(store.stats().used, store.stats().children, store.borrows())
        """
    )
    assert (ended.status, ended.out) == (0, "True\nTrue\nTrue\n0 0 []\n"), ended


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_are_told_what_to_do(method: str) -> None:
    with moorage.Store("1MiB") as store:
        store.put_tensor("train/0", torch.zeros(3))
        samples = store.snapshot()
        loader = data.DataLoader(Cached(samples), num_workers=1, multiprocessing_context=method)
        warnings.simplefilter("ignore")  # torch warns too; pytest puts them back
        with pytest.raises(TypeError, match=r'store\.snapshot\(\).*multiprocessing_context="fork"'):
            iter(loader)
        samples.close()
        del samples, loader
