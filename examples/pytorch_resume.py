"""A training run that breaks off, and goes on from its last checkpoint as if nothing had happened. Needs torch.

    python pytorch_resume.py

Model, optimizer, random numbers and the count of steps are published together, at one point, in memory: there is never
half a checkpoint. A store ends with its process; what shall outlive that goes to a file, as at the end of `main`.
"""

from __future__ import annotations

import os
import tempfile

import torch

import moorage

STEPS, EVERY, BREAKS_AT = 40, 10, 37


def network() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 512), torch.nn.Dropout(0.1), torch.nn.ReLU(), torch.nn.Linear(512, 8)
    )


def save(store: moorage.Store, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """One copy into the store; the checkpoint before is there until this one is complete."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    store.put_state_dict({**state, "random": torch.get_rng_state(), "step": step}, "checkpoint/")


def load(store: moorage.Store) -> tuple[torch.nn.Module, torch.optim.Optimizer, int]:
    """Nothing is copied: what the training then changes are copy-on-write pages."""
    kept = store.get_state_dict("checkpoint/")
    model = network()
    model.load_state_dict(kept["model"], assign=True)
    optimizer = torch.optim.AdamW(model.parameters())  # after assign=True: the model has other parameters now
    optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["random"])
    return model, optimizer, kept["step"]


def train(store: moorage.Store, breaks_at: int | None = None) -> torch.nn.Module:
    """From the last checkpoint, if there is one, to the end."""
    if store.keys("checkpoint/"):
        model, optimizer, step = load(store)
        print(f"going on from step {step}")
    else:
        torch.manual_seed(1)
        model, step = network(), 0
        optimizer = torch.optim.AdamW(model.parameters())
    while step < STEPS:
        optimizer.zero_grad()
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
        step += 1
        if step == breaks_at:
            raise KeyboardInterrupt
        if step % EVERY == 0:
            save(store, model, optimizer, step)
    return model


def main() -> None:
    torch.set_num_threads(1)
    wanted = train(moorage.Store("64MiB")).state_dict()

    store = moorage.Store("64MiB")
    try:
        train(store, breaks_at=BREAKS_AT)
    except KeyboardInterrupt:
        print(f"broken off at step {BREAKS_AT}")
    resumed = train(store).state_dict()
    assert all(torch.equal(resumed[name], wanted[name]) for name in wanted)
    print("bit for bit what it is without the break")

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.pt")
        torch.save(store.get_state_dict("checkpoint/", mode="view"), path)
        print(f"written to a file: step {torch.load(path)['step']}, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
