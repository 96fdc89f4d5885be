"""One set of weights, several models that change them, and activations produced in the store. Needs torch.

    python pytorch_example.py [MODEL.safetensors]

With a file the layer has real weights, else random ones.
"""

from __future__ import annotations

import os
import sys

import torch

import moorage


def load(store: moorage.Store, path: str | None) -> str:
    """Fills the store and names a matrix in it."""
    if path is None:
        store.put_tensor("weight", torch.randn(768, 512))
        return "weight"
    print(f"imported {store.import_safetensors(path)} tensors")
    found = [store.describe(key) for key in sorted(store.keys())]
    return max((one for one in found if len(one.shape) == 2), key=lambda one: one.nbytes).key


def layer(store: moorage.Store, key: str) -> torch.nn.Linear:
    """A layer whose weight is the store's memory, until it is written to."""
    weight = store.get_tensor(key)  # mode "cow": an ordinary tensor
    with torch.device("meta"):
        made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    made.load_state_dict({"weight": weight}, assign=True)
    return made


def train(model: torch.nn.Linear) -> float:
    """One step of an optimizer, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = model(torch.ones(4, model.in_features, dtype=model.weight.dtype)).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def two_models(store: moorage.Store, key: str) -> None:
    """Two models begin with the same bytes and go their own ways; the store keeps what it has."""
    original = store.get_tensor(key, mode="view")  # to read only: writing to it would end the process
    wanted = original.clone()
    trained, untouched = layer(store, key), layer(store, key)
    loss = train(trained)
    assert not torch.equal(trained.weight, original)
    assert torch.equal(untouched.weight, original) and torch.equal(original, wanted)
    print(f"trained one of two models (loss {loss:.3f}); the other, and the store, are as they were")


def activations(store: moorage.Store, key: str) -> None:
    """The output of a layer is computed into the store's memory and gets a name there: no copy."""
    weight = store.get_tensor(key, mode="view")
    batch = torch.ones(32, weight.shape[1], dtype=weight.dtype)
    out = store.empty((32, weight.shape[0]), weight.dtype)
    torch.matmul(batch, weight.t(), out=out)
    store.adopt("activations", out)
    stats = store.stats()
    print(f"activations: {stats.adoptions} adopted, {stats.adopt_copies} copied")


def into_a_warm_buffer(store: moorage.Store) -> None:
    """Half of the rows, into memory that is used over and over."""
    shape = store.describe("activations").shape
    half = torch.empty(shape[0] // 2, shape[1])
    copied = store.get_into("activations", half, nbytes=half.numel() * half.element_size())
    assert torch.equal(half, store.get_tensor("activations")[: shape[0] // 2])
    print(f"copied {copied} bytes into a buffer of our own")


def main(path: str | None) -> None:
    store = moorage.Store((64 << 20) + (2 * os.path.getsize(path) if path else 0))  # used when written to
    key = load(store, path)
    two_models(store, key)
    activations(store, key)
    into_a_warm_buffer(store)
    kept = store.get_tensor("activations")
    store.close()  # says, in the log, that one object is still viewed
    print(f"after close: the activations are still there, their mean {kept.mean():.4f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
