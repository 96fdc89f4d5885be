"""What programs do to tensors that they were given, as if these were their own: each flow writes in place.

A flow has `tensors(n)`, what it starts from (n elements in the large ones), and `run(get)`, which works with what
`get(name)` gives for their names and returns every tensor that came of it.
"""

from __future__ import annotations

import torch
from torch import nn


class InPlace:
    """One operation on one tensor."""

    def __init__(self, operation):
        self._operation = operation

    def tensors(self, n):
        generator = torch.Generator().manual_seed(1)
        return {"x": torch.randn(n // 16, 16, generator=generator)}

    def run(self, get):
        torch.manual_seed(2)
        x = get("x")
        out = self._operation(x)
        return [x] if out is None else [x, out]


def relu(x):
    return nn.ReLU(inplace=True)(x)


def dropout(x):
    return nn.Dropout(0.4, inplace=True)(x)


def lerp(x):
    return x.lerp_(torch.full_like(x, 3.0), 0.25)


def init(x):
    return nn.init.kaiming_uniform_(x)


def out(x):
    return torch.add(torch.arange(x.numel(), dtype=x.dtype).view_as(x), 0.5, out=x)


def weight_data(x):
    layer = nn.Linear(x.shape[1], x.shape[0], bias=False)
    layer.weight = nn.Parameter(x)
    layer.weight.data.mul_(0.9)
    return layer(torch.ones(1, x.shape[1])).detach()


def through_numpy(x):
    x.numpy()[0] = 1


class BatchNorm:
    """Running statistics are buffers, which the forward pass of a module in training changes."""

    def tensors(self, n):
        generator = torch.Generator().manual_seed(1)
        return {
            "weight": torch.rand(n, generator=generator),
            "bias": torch.rand(n, generator=generator),
            "running_mean": torch.rand(n, generator=generator),
            "running_var": torch.rand(n, generator=generator),
            "num_batches_tracked": torch.tensor(7),
        }

    def run(self, get):
        torch.manual_seed(2)
        layer = nn.BatchNorm1d(get("weight").numel())
        layer.load_state_dict({name: get(name) for name in layer.state_dict()}, assign=True)
        layer.train()
        given = torch.randn(4, layer.num_features)
        result = layer(given)
        return [result.detach(), *layer.state_dict().values()]


def network(n, assigned):
    """Two layers that hold the tensors they are given."""
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(16, n // 16), nn.ReLU(inplace=True), nn.Linear(n // 16, 16))
    layers.load_state_dict(assigned, assign=True)
    return layers


def parameters(n):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(16, n // 16), nn.ReLU(), nn.Linear(n // 16, 16)).state_dict()


def step(layers, optimizer):
    optimizer.zero_grad()
    layers(torch.linspace(-1, 1, 64).view(4, 16)).square().mean().backward()
    optimizer.step()


class SGDStep:
    """load_state_dict(assign=True), then steps that change the parameters and make momentum."""

    def tensors(self, n):
        return parameters(n)

    def run(self, get):
        given = {name: get(name) for name in self.tensors(1024)}
        layers = network(given["0.weight"].numel(), given)
        optimizer = torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9)
        step(layers, optimizer)
        step(layers, optimizer)
        return list(layers.state_dict().values())


class AdamResumed:
    """Parameters and an optimizer's state, moments and step counts, go on from what is stored."""

    def tensors(self, n):
        layers = network(n, parameters(n))
        optimizer = torch.optim.Adam(layers.parameters(), lr=0.01, amsgrad=True)
        step(layers, optimizer)
        state = optimizer.state_dict()["state"]
        moments = {f"state.{i}.{name}": t for i, one in state.items() for name, t in one.items()}
        return {**layers.state_dict(), **moments}

    def run(self, get):
        names = list(self.tensors(1024))
        layers = network(get("0.weight").numel(), {name: get(name) for name in names if not name.startswith("state.")})
        optimizer = torch.optim.Adam(layers.parameters(), lr=0.01, amsgrad=True)
        resumed = optimizer.state_dict()
        for name in names:
            if name.startswith("state."):
                _, i, what = name.split(".")
                resumed["state"].setdefault(int(i), {})[what] = get(name)
        optimizer.load_state_dict(resumed)
        step(layers, optimizer)
        step(layers, optimizer)
        state = optimizer.state_dict()["state"]
        return [*layers.state_dict().values(), *(t for one in state.values() for t in one.values())]


FLOWS = {
    "div_": InPlace(lambda x: x.div_(3)),
    "ReLU(inplace=True)": InPlace(relu),
    "Dropout(inplace=True)": InPlace(dropout),
    "lerp_": InPlace(lerp),
    "nn.init": InPlace(init),
    "out=": InPlace(out),
    "BatchNorm in training": BatchNorm(),
    "weight.data.mul_": InPlace(weight_data),
    "v.numpy()[0] = 1": InPlace(through_numpy),
    "assign=True, then SGD": SGDStep(),
    "Adam resumed": AdamResumed(),
}
