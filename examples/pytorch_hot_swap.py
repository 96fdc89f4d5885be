"""Weights that are replaced while they serve: every answer comes from one generation of them. Needs torch.

    python pytorch_hot_swap.py

A trainer publishes new weights now and then, at one point; threads that serve notice, and hang them into their model
without a copy. The model turns its input and turns it back: an answer that differs from the request came from a mix
of two generations.
"""

from __future__ import annotations

import threading

import torch

import moorage

WIDTH, GENERATIONS, SERVERS = 256, 50, 3


def network() -> torch.nn.Sequential:
    """Without memory of its own: the weights come from the store."""
    with torch.device("meta"):
        return torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH, bias=False), torch.nn.Linear(WIDTH, WIDTH, bias=False))


def publish(store: moorage.Store) -> None:
    """New weights: a rotation and its inverse."""
    rotation, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH))
    store.put_state_dict({"0.weight": rotation, "1.weight": rotation.t()}, "model/")


class Server:
    """A thread that answers requests until it is told to stop."""

    def __init__(self, store: moorage.Store, stop: threading.Event) -> None:
        self.answered, self.swaps, self.worst = 0, 0, 0.0
        self._store, self._stop = store, stop
        self._model, self._seq = network(), -1
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _newest(self) -> torch.nn.Sequential:
        """The model; its weights are exchanged when others were published. Looking costs microseconds."""
        seq = self._store.describe("model/0.weight").seq
        if seq != self._seq:
            self._store.assign_to(self._model, "model/")
            self._seq, self.swaps = seq, self.swaps + 1
        return self._model

    def _serve(self) -> None:
        while self.answered == 0 or not self._stop.is_set():
            request = torch.randn(8, WIDTH)
            with torch.inference_mode():
                answer = self._newest()(request)
            self.worst = max(self.worst, float((answer - request).abs().max()))
            self.answered += 1


def main() -> None:
    torch.set_num_threads(1)
    store = moorage.Store("64MiB")
    publish(store)
    stop = threading.Event()
    servers = [Server(store, stop) for _ in range(SERVERS)]
    for _ in range(GENERATIONS):
        publish(store)
    stop.set()
    for server in servers:
        server.thread.join()
        print(f"{server.answered} answers, {server.swaps} generations, largest error {server.worst:.1e}")
        assert server.worst < 1e-3
    print(f"in the store: {sorted(store.keys())}, nothing of older generations")


if __name__ == "__main__":
    main()
