"""What dies on a read-only mapping just works in the default mode, as with an ordinary tensor. In mode "view" it ends
with a line that names key and remedy.
"""

from __future__ import annotations

import re
import signal

import pytest
from programs import run_prepared

import moorage

torch = pytest.importorskip("torch", reason="probed for torch: not installed")
torch.set_num_threads(1)

from flows import FLOWS  # noqa: E402

# Elements of float32: below 64 KiB a copy is handed out, from there on a window.
SIZES = {"copied": 1 << 10, "window": 1 << 14}


def raw(t):
    """The bytes of a tensor: NaN and -0.0 are told apart."""
    return t.detach().contiguous().numpy().tobytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FLOWS)
def test_the_default_mode_just_works(store, name, size):
    flow = FLOWS[name]
    tensors = flow.tensors(SIZES[size])
    store.put_tensors(tensors)
    before = {key: store.get(key) for key in tensors}
    wanted = [raw(t) for t in flow.run(lambda key: tensors[key].detach().clone())]

    handed = []

    def get(key):
        handed.append(store.get_tensor(key))
        return handed[-1]

    got = [raw(t) for t in flow.run(get)]
    large = sum(t.nbytes >= 64 << 10 for t in handed)
    stats = store.stats()
    assert got == wanted
    assert stats.windows == large and stats.window_copies == 0
    assert (large > 0) == (size == "window")
    assert {key: store.get(key) for key in tensors} == before
    assert {key: raw(store.get_tensor(key, mode="view")) for key in tensors} == before


PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import moorage, torch
from flows import FLOWS
torch.set_num_threads(1)
flow = FLOWS[{name!r}]
tensors = flow.tensors({n})
store = moorage.Store("16MiB", mode="view")
store.put_tensors(tensors)
flow.run(lambda key: store.get_tensor(key))
print("survived")
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FLOWS)
def test_in_mode_view_it_ends_with_key_and_remedy(name, size, request):
    here = str(request.path.parent)
    ended = run_prepared(PROGRAM.format(here=here, name=name, n=SIZES[size]))
    assert ended.status == -signal.SIGSEGV, f"status {ended.status}\n{ended.out}\n{ended.error}"
    assert "survived" not in ended.out
    said = [line for line in ended.error.splitlines() if line.startswith("moorage:")]
    assert len(said) == 1, ended.error
    found = re.fullmatch(r'moorage: a write to a shared read-only view of key "([^"]+)"; use mode="cow" .*', said[0])
    assert found and found[1] in FLOWS[name].tensors(SIZES[size]), said[0]


def test_two_that_got_one_object_do_not_see_each_other(store):
    for n in SIZES.values():
        store.put_tensor("x", torch.zeros(n))
        first, second = store.get_tensor("x"), store.get_tensor("x")
        first.add_(1)
        second.sub_(1)
        assert first.sum() == n and second.sum() == -n
        assert not store.get_tensor("x").any()


def test_an_assigned_module_outlives_the_store(open_store):
    store = open_store()
    layer = torch.nn.Linear(256, 256)
    wanted = raw(layer.weight)
    store.put_tensors(dict(layer.state_dict()))
    layer.load_state_dict({name: store.get_tensor(name) for name in layer.state_dict()}, assign=True)
    store.close()
    assert raw(layer.weight) == wanted
    torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=0.5).zero_grad()
    layer(torch.ones(1, 256)).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert raw(layer.weight) != wanted


def test_v_numpy_raises_nothing_and_get_array_does(store):
    """The difference between torch's numpy of a window, and the array that numpy users get."""
    store.put_tensor("x", torch.zeros(1 << 14))
    store.get_tensor("x").numpy()[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        store.get_array("x")[0] = 1
    with pytest.raises(moorage.ReadOnlyError):
        store.get_into("x", store.get_array("x"))
