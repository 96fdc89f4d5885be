"""A dataset that is decoded once and read by every DataLoader worker without a copy of its own. Needs torch.

    python pytorch_dataloader.py

Samples are made here, not decoded: what costs time in real datasets is a line. The point is where they are: once, in
the parent's store; workers inherit a snapshot of it.
"""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset

import moorage

SAMPLES, SIZE = 64, 3 * 224 * 224


def decode(i: int) -> torch.Tensor:
    """Stands for reading and decoding file number i."""
    return torch.full((SIZE,), i, dtype=torch.uint8)


class Cached(Dataset[torch.Tensor]):
    """Reads from a snapshot, which a forked worker can do: it asks neither the store nor the parent."""

    def __init__(self, samples: moorage.Snapshot) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.samples[f"train/{i}"].add_(1)  # mode "cow": the worker's own, the store keeps what it has


def epoch(samples: moorage.Snapshot) -> int:
    # "fork" is what inherits; Python 3.14 would start workers in another way.
    loader = DataLoader(Cached(samples), batch_size=8, num_workers=2, multiprocessing_context="fork")
    return sum(int(batch[:, 0].sum()) for batch in loader)


def main() -> None:
    store = moorage.Store("64MiB")
    for i in range(SAMPLES):
        store.put_tensor(f"train/{i}", decode(i))

    with store.snapshot(prefix="train/") as samples:  # before the workers are started
        first = epoch(samples)
        # Half of the dataset is replaced. Who holds a snapshot keeps reading what it was taken of.
        store.put_tensors({f"train/{i}": decode(0) for i in range(0, SAMPLES, 2)}, atomic=True)
        again = epoch(samples)
    with store.snapshot(prefix="train/") as samples:
        after = epoch(samples)

    assert first == again == sum(range(SAMPLES)) + SAMPLES
    assert after == sum(range(1, SAMPLES, 2)) + SAMPLES
    copied = store.stats().bytes_copied_out
    print(f"two epochs of {SAMPLES} samples with the same sum, one after a change; {copied} bytes copied by the parent")
    store.close()


if __name__ == "__main__":
    main()
