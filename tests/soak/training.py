"""A training job that goes on for as long as it is told, with everything that goes wrong in one.

A parent trains a small network on samples that two forked workers read out of a snapshot. Meanwhile it replaces,
removes and adds samples, publishes its weights as one set, forks children that read and are killed, kills workers,
fills the store until it evicts, trims. Readers in threads check that weights are never mixed of two steps; every sample
says in its bytes which it is and is checked by whoever reads it. In the end memory, descriptors and mappings are what
they were.

    python training.py SECONDS
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import torch

import moorage

SAMPLES = 64
WIDTH = 20_000  # floats of a sample: more than 64 KiB, so that it is a window
SETTLED = 0.25  # of the time, after which nothing may grow any more


def sample(number: int, version: int) -> torch.Tensor:
    """Says in every element which sample it is, and of which version."""
    t = torch.full((WIDTH,), float(version))
    t[0] = number
    return t


def check_sample(t: torch.Tensor, number: int) -> None:
    if t[0] != number or not bool((t[1:] == t[1]).all()):
        raise AssertionError(f"sample {number} has been torn: {t[0]}, {t[1:].unique()}")


class Samples(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What a worker inherits."""

    def __init__(self, snapshot: moorage.Snapshot) -> None:
        self.snapshot = snapshot
        self.keys = sorted(snapshot)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> torch.Tensor:
        key = self.keys[i]
        t = self.snapshot[key]
        check_sample(t, int(key.rpartition("/")[2]))
        t.mul_(1)  # as an augmentation would: a window takes it
        return t[:256]


class Job:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = moorage.Store("128MiB", eviction="s3fifo")
        self.net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(inplace=True), torch.nn.Linear(256, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4)
        self.version = 0
        self.step = 0
        self.failed: list[BaseException] = []
        self.stop = threading.Event()
        self.counts = dict.fromkeys(
            ("epochs", "batches", "workers killed", "loaders broken", "children", "children killed", "sets"), 0
        )
        for i in range(SAMPLES):
            self.put(i)
        self.publish()

    def put(self, number: int) -> None:
        self.version += 1
        key = f"sample/{number}"
        self.store.put_tensor(key, sample(number, self.version))
        self.store.pin(key)  # what fills the store must not drive samples out

    def publish(self) -> None:
        """Weights and the step that they are of."""
        weights = {**self.net.state_dict(), "step": torch.full((1000,), self.step)}
        self.store.put_state_dict({"net": weights, "optimizer": self.optimizer.state_dict(), "step": self.step}, "job/")
        self.store.pin("job/%state_dict")
        self.counts["sets"] += 1

    # ---- readers, in threads ----

    def read_weights(self) -> None:
        while not self.stop.is_set():
            try:
                sd = self.store.get_state_dict("job/")
            except moorage.NotFoundError:
                continue  # evicted in part: said so, and not handed out
            if not bool((sd["net"]["step"] == sd["step"]).all()):
                raise AssertionError(f"weights of two steps: {sd['net']['step'].unique()}, {sd['step']}")
            time.sleep(0.002)

    def guarded(self, what: Any) -> None:
        try:
            what()
        except BaseException as error:
            self.failed.append(error)
            raise

    # ---- what disturbs ----

    def disturb(self) -> None:
        kind = self.random.random()
        number = self.random.randrange(SAMPLES)
        if kind < 0.5:
            self.put(number)
        elif kind < 0.6:
            self.store.remove(f"sample/{number}", missing_ok=True)
        elif kind < 0.8:
            for _ in range(8):
                self.store.put(f"filler/{self.random.randrange(1000)}", bytes(1 << 20))
        elif kind < 0.85:
            self.store.trim()
        else:
            self.child()

    def child(self) -> None:
        """A forked child that reads, and ends in one of three ways."""
        with self.store.snapshot(prefix="sample/") as snapshot:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    torch.set_num_threads(1)
                    for key in snapshot:
                        check_sample(snapshot[key], int(key.rpartition("/")[2]))
                    code = 0
                    if self.random.random() < 0.3:
                        time.sleep(60)
                finally:
                    os._exit(code)
        self.counts["children"] += 1
        for _ in range(self.random.randrange(4)):
            self.put(self.random.randrange(SAMPLES))
        if self.random.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
            self.counts["children killed"] += 1
        else:
            end = time.monotonic() + 2
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                    break
                time.sleep(0.01)
            else:
                return
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise AssertionError("a child read something wrong")

    # ---- training ----

    def epoch(self) -> None:
        with self.store.snapshot(prefix="sample/") as snapshot:
            loader = torch.utils.data.DataLoader(
                Samples(snapshot), batch_size=8, num_workers=2, multiprocessing_context="fork", shuffle=True, timeout=60
            )
            batches = iter(loader)
            victim = self.random.randrange(1, 6) if self.random.random() < 0.3 else -1
            try:
                for n, batch in enumerate(batches):
                    self.train(batch)
                    self.disturb()
                    if n == victim:
                        self.kill_one([w for w in batches._workers if w.is_alive()])  # type: ignore[attr-defined]
            except (RuntimeError, EOFError, ConnectionError) as error:
                # torch raises it from a signal handler, wherever we are then, perhaps only in the next epoch.
                if not self.counts["workers killed"] or isinstance(error, moorage.MoorageError):
                    raise
                self.counts["loaders broken"] += 1
            del batches
        for number in range(SAMPLES):
            if f"sample/{number}" not in self.store:
                self.put(number)
        self.counts["epochs"] += 1

    def kill_one(self, workers: list[Any]) -> None:
        if workers:
            os.kill(self.random.choice(workers).pid, signal.SIGKILL)
            self.counts["workers killed"] += 1

    def train(self, batch: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss = self.net(batch.mean(dim=0).clamp(-1, 1)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self.counts["batches"] += 1
        if self.step % 4 == 0:
            self.publish()


def usage() -> dict[str, int]:
    gc.collect()
    status = dict(line.split(":", 1) for line in lines_of("/proc/self/status") if ":" in line)
    return {
        "anonymous KiB": int(status["RssAnon"].split()[0]),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mappings": len(lines_of("/proc/self/maps")),
        "threads": int(status["Threads"]),
    }


def lines_of(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


# What may be more in the end than it was when the job had settled: allocators keep some, and it is not always the same.
ROOM = {"anonymous KiB": 48 << 10, "descriptors": 4, "mappings": 120, "threads": 2}


def main(seconds: float) -> int:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}", flush=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    job = Job(seed)
    readers = [threading.Thread(target=job.guarded, args=(job.read_weights,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    began, settled = time.monotonic(), None
    try:
        while time.monotonic() - began < seconds and not job.failed:
            job.epoch()
            if settled is None and time.monotonic() - began > SETTLED * seconds and job.counts["epochs"] >= 3:
                settled = usage()
    finally:
        job.stop.set()
        for reader in readers:
            reader.join(60)
    if job.failed:
        return 1
    last = usage()
    print(", ".join(f"{value} {name}" for name, value in job.counts.items()))
    print(f"settled {settled}\nlast    {last}")
    if settled is None:
        print("too short to say whether anything grows")
        return 1
    grown = [f"{name}: {settled[name]} -> {last[name]}" for name in last if last[name] > settled[name] + ROOM[name]]
    return finish(job, grown)


def finish(job: Job, grown: list[str]) -> int:
    """Everything must be given back in the end."""
    end = time.monotonic() + 20
    while (held := job.store.stats().held_bytes) and time.monotonic() < end:
        time.sleep(0.05)
    stats = job.store.stats()
    if held or stats.borrowed_objects or stats.children or stats.windows:
        grown.append(f"left behind: {stats}, {job.store.borrows()}")
    print(f"{stats.evictions} evictions, {stats.window_copies} windows that were copies")
    job.store.close(wait=True)
    while any("memfd:moorage" in line for line in lines_of("/proc/self/maps")):
        if time.monotonic() > end:
            grown.append("the region is still mapped")
            break
        time.sleep(0.05)
    for one in grown:
        print("grown:", one)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
