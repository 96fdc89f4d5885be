"""State dicts: what goes in comes back, tied, of one generation, and can be trained on."""

from __future__ import annotations

import copy
import io
import itertools
import json
import math
import struct
from collections import Counter, OrderedDict

import pytest
from children import in_child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moorage

torch = pytest.importorskip("torch", reason="probed for torch: not installed")
torch.set_num_threads(1)

from torch import nn  # noqa: E402

from moorage.state_dict import MANIFEST  # noqa: E402


def raw(t):
    dense = torch.empty(t.shape, dtype=t.dtype).copy_(t.detach())  # contiguous() leaves odd strides of one element
    return dense.view(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def bits(x):
    return struct.pack(">d", x)


def assert_same(a, b, path="sd"):
    """The same values of the same types: 1, 1.0 and True differ, so do 0.0 and -0.0, and NaN equals its bits."""
    if isinstance(b, torch.Tensor):
        assert type(a) is torch.Tensor and not a.requires_grad, path
        assert (a.dtype, a.shape) == (b.dtype, b.shape) and raw(a) == raw(b), path
        return
    assert type(a) is type(b), path
    if isinstance(b, dict):
        for one, other in zip(a, b):
            assert_same(one, other, f"{path} key {other!r}")
        assert len(a) == len(b)
        for one, (key, other) in zip(a.values(), b.items()):
            assert_same(one, other, f"{path}[{key!r}]")
        assert hasattr(a, "_metadata") == hasattr(b, "_metadata"), path
        if hasattr(b, "_metadata"):
            assert_same(a._metadata, b._metadata, path + "._metadata")
    elif isinstance(b, (list, tuple)):
        assert len(a) == len(b)
        for i, (one, other) in enumerate(zip(a, b)):
            assert_same(one, other, f"{path}[{i}]")
    elif isinstance(b, float):
        assert bits(a) == bits(b), path
    else:
        assert a == b, path


def round_trip(store, sd, prefix="p/"):
    store.put_state_dict(sd, prefix)
    return store.get_state_dict(prefix)


# ---- what goes in comes back ----

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8]


@st.composite
def tensors(draw):
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    dtype = draw(st.sampled_from(DTYPES))
    t = torch.zeros(shape, dtype=dtype)
    if t.numel():
        t.view(torch.uint8).random_(0, 2) if t.dim() else t.reshape(1).view(torch.uint8).random_(0, 2)
    layout = draw(st.sampled_from(["dense", "transposed", "every second", "Parameter"]))
    if layout == "transposed" and t.dim() >= 2:
        return t.transpose(0, 1)
    if layout == "every second" and t.dim():
        return t[::2]
    if layout == "Parameter" and t.is_floating_point():
        return nn.Parameter(t, requires_grad=draw(st.booleans()))
    return t


floats = st.one_of(st.floats(), st.integers(0, 2**64 - 1).map(lambda n: struct.unpack(">d", struct.pack(">Q", n))[0]))
ints = st.one_of(st.integers(), st.integers(-(2**200), 2**200), st.sampled_from([2**53, 1 - 2**53, -(2**53)]))
texts = st.one_of(
    st.text(max_size=8), st.sampled_from(["", MANIFEST, "a/b", "a", "b", "a.b", "a%1", "\ud800", "é\0\n"])
)
scalars = st.one_of(st.none(), st.booleans(), ints, floats, texts)
names = st.one_of(texts.filter(lambda s: "\ud800" not in s), st.integers(-3, 10**20), st.booleans(), st.none(), floats)


def ordered(sd, metadata):
    made = OrderedDict(sd)
    if metadata is not None:
        made._metadata = metadata
    return made


def containers(inner):
    dicts = st.dictionaries(names, inner, max_size=4)
    return st.one_of(
        dicts,
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.builds(ordered, dicts, st.one_of(st.none(), inner)),
    )


nested = st.dictionaries(names, st.recursive(st.one_of(tensors(), scalars), containers, max_leaves=12), max_size=5)


# A key is a name of a tensor as long as it can be one.
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sd=nested, prefix=st.sampled_from(["", "p/", "p.", "é"]))
def test_everything_that_is_allowed_comes_back(store, sd, prefix):
    assert_same(round_trip(store, sd, prefix), sd)
    stored = store.keys()
    assert all(key.startswith(prefix) for key in stored)
    store.clear()


def test_scalars_one_by_one(store):
    nan = struct.unpack(">d", bytes.fromhex("fff80000deadbeef"))[0]
    values = [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        nan,
        5e-324,
        0.1,
        1e300,
        1,
        True,
        0,
        False,
        None,
        "",
        "1",
        2**53,
    ]
    values += [-(2**53), 2**64, -(10**5000), 1.0, (), [], {}, OrderedDict(), ((1,), [2, (3.0,)])]
    assert_same(round_trip(store, {"v": values}), {"v": values})


def test_keys_that_look_alike(store):
    sd = {key: torch.tensor([i]) for i, key in enumerate([0, "0", 0.5, "0.5", None, "None", "a/b", "", "%1", MANIFEST])}
    sd["a"] = {"b": torch.tensor([100]), "b%1": torch.tensor([101])}
    assert_same(round_trip(store, sd), sd)
    assert_same(round_trip(store, sd, ""), sd)


def test_the_metadata_of_a_module(store):
    sd = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)).state_dict()
    got = round_trip(store, sd)
    assert_same(got, sd)
    assert got._metadata["0"] == {"version": 2}


def test_plain_keys_stay_usable(store):
    model = nn.Sequential(OrderedDict(encoder=nn.Linear(3, 4), decoder=nn.Linear(4, 3)))
    store.put_state_dict(model.state_dict(), "model/")
    assert torch.equal(store.get_tensor("model/encoder.weight"), model.encoder.weight)
    optimizer = adam(model)
    train(model, optimizer, 1)
    store.put_state_dict(optimizer.state_dict(), "optimizer/")
    assert store.get_tensor("optimizer/state/0/exp_avg").shape == (4, 3)
    assert store.get_tensor("optimizer/state/0/step").shape == ()


def test_a_prefix_without_a_manifest_is_a_flat_dict(store):
    store.put_tensors({"m/b": torch.ones(2), "m/a": torch.zeros(3), "n/a": torch.zeros(1)})
    store.put("m/notes", b"not a tensor")
    store.put_state_dict({"inner": torch.ones(1), "n": 1}, "m/x/")
    flat = store.get_state_dict("m/")
    assert list(flat) == ["a", "b", "x/inner"]
    assert type(flat) is dict and flat["b"].tolist() == [1, 1]
    assert list(store.get_state_dict("m/x/")) == ["inner", "n"]
    assert "n/a" in store.get_state_dict()


def test_a_safetensors_file(store, tmp_path):
    sd = nn.Linear(3, 4).state_dict()
    with moorage.Store("1MiB") as other:
        other.put_tensors(dict(sd))
        other.export_safetensors(tmp_path / "m.safetensors")
    store.import_safetensors(tmp_path / "m.safetensors", "m/")
    model = nn.Linear(3, 4)
    store.assign_to(model, "m/")
    assert_same(dict(model.state_dict()), {name: sd[name] for name in model.state_dict()})


def test_what_is_not_there_is_a_key_error(store):
    store.put("m/bytes", b"x")
    for prefix in ("m/", "nothing/", ""):
        with pytest.raises(KeyError, match=f"no state dict and no tensors under prefix '{prefix}'"):
            store.get_state_dict(prefix)
    store.put_state_dict({"a": torch.ones(1), "b": torch.ones(2)}, "m/")
    store.remove("m/b")
    with pytest.raises(moorage.NotFoundError, match="under prefix 'm/' has lost a tensor.*m/b"):
        store.get_state_dict("m/")


# ---- what cannot be stored ----


class Odd:
    pass


class Pair(tuple):
    pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Odd(), r"sd\['a'\]\[0\]\['b'\] is of type .*Odd"),
        ({1, 2}, r"\['b'\] is of type builtins.set"),
        (b"bytes", r"\['b'\] is of type builtins.bytes"),
        (1j, r"\['b'\] is of type builtins.complex"),
        (Counter([1]), r"\['b'\] is of type collections.Counter"),
        (Pair((1, 2)), r"\['b'\] is of type .*Pair"),
        (torch.float32, r"\['b'\] is of type torch.dtype"),
        (torch.Size([1]), r"\['b'\] is of type torch.Size"),
        (lambda: 1, r"\['b'\] is of type builtins.function"),
        ({(1, 2): 1}, r"sd\['a'\]\[0\]\['b'\] has a key of type tuple"),
        ({"c": [Odd()]}, r"sd\['a'\]\[0\]\['b'\]\['c'\]\[0\] is of type"),
        (ordered({}, {"v": Odd()}), r"sd\['a'\]\[0\]\['b'\]\['_metadata'\]\['v'\] is of type"),
        (torch.eye(3).to_sparse(), r"sd\['a'\]\[0\]\['b'\]: t is sparse"),
        (torch.empty(3, device="meta"), r"sd\['a'\]\[0\]\['b'\]: t is on the meta device"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_anything_else_is_a_type_error_with_its_path(store, value, says):
    with pytest.raises(TypeError, match=says):
        store.put_state_dict({"ok": torch.ones(1), "a": [{"b": value}]}, "p/")
    assert len(store) == 0


def test_numpy_has_types_of_its_own(store):
    np = pytest.importorskip("numpy")
    for value in (np.float64(0.5), np.int64(3), np.zeros(3), np.bool_(True)):
        with pytest.raises(TypeError, match=r"sd\['lr'\] is of type numpy\."):
            store.put_state_dict({"lr": value})
    assert len(store) == 0


def test_what_holds_itself(store):
    for make in (dict, list, OrderedDict):
        loop = make()
        inner = {"x": (loop,)}
        loop.append(inner) if make is list else loop.update(a=inner)
        with pytest.raises(TypeError, match="holds itself"):
            store.put_state_dict({"l": loop})
    deep = leaf = []
    for _ in range(100_000):
        leaf.append([])
        leaf = leaf[0]
    with pytest.raises(TypeError, match=r"sd\['deep'\]\[0\]\[0\]\.\.\. is nested deeper than 64 levels"):
        store.put_state_dict({"deep": deep})
    shared = [1, 2]
    assert_same(round_trip(store, {"a": shared, "b": (shared, shared)}), {"a": shared, "b": (shared, shared)})


def test_as_deep_as_it_may_be(store):
    sd = {"x": torch.ones(1)}
    for _ in range(63):
        sd = {"in": sd}
    assert_same(round_trip(store, sd), sd)
    with pytest.raises(TypeError, match="nested deeper"):
        store.put_state_dict({"in": sd}, "p/")
    assert_same(store.get_state_dict("p/"), sd)


@pytest.mark.parametrize("sd", [None, [], 3, torch.ones(3), "sd", Counter()], ids=lambda sd: type(sd).__name__)
def test_only_a_dict_is_a_state_dict(store, sd):
    with pytest.raises(TypeError, match="sd must be a dict"):
        store.put_state_dict(sd)


def test_prefixes_that_are_none(store):
    for call in (lambda p: store.put_state_dict({}, p), store.get_state_dict, lambda p: store.assign_to(nn.ReLU(), p)):
        with pytest.raises(TypeError, match="key must be a str"):
            call(3)
        with pytest.raises(moorage.InvalidArgumentError, match="surrogate"):
            call("\ud800")
        with pytest.raises(moorage.InvalidArgumentError):
            call("x" * 5000)
    with pytest.raises(moorage.InvalidArgumentError, match="mode must be one of"):
        store.get_state_dict("p/", mode="cov")


def test_a_refused_one_changes_nothing(open_store):
    store = open_store("1MiB")
    sd = {"a": torch.ones(8), "b": 2}
    store.put_state_dict(sd, "p/")
    with pytest.raises(moorage.CapacityError):
        store.put_state_dict({"a": torch.zeros(8), "large": torch.zeros(1 << 20)}, "p/")
    with pytest.raises(moorage.InvalidArgumentError):
        store.put_state_dict({"a": torch.zeros(8), "x" * 5000: torch.zeros(8)}, "p/")
    with pytest.raises(TypeError):
        store.put_state_dict({"a": torch.zeros(8), "b": Odd()}, "p/")
    assert_same(store.get_state_dict("p/"), sd)
    assert sorted(store.keys()) == sorted(["p/a", "p/" + MANIFEST])


# ---- a manifest that was written by somebody else ----

GOOD = {"format": "moorage-state-dict", "version": 1, "tensors": ["a"], "tree": {"dict": [["a", {"tensor": 0}]]}}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"17",
        b'{"format": "moorage-state-dict", "version": 1, "tensors": [], "tree": NaN}',
        b'{"format": "moorage-state-dict", "version": 1, "tensors": [], "tree": ' + b"[" * 70 + b"]" * 70 + b"}",
        {"format": "other"},
        {"version": 2},
        {"version": None},
        {"tensors": None},
        {"tensors": ["a", "a"]},
        {"tensors": ["a", 3]},
        {"tensors": [""]},
        {"tensors": ["x" * 5000]},
        {"tensors": ["\ud800"]},
        {"tensors": []},
        {"tree": {"tensor": -1}},
        {"tree": {"tensor": True}},
        {"tree": {"tensor": 1}},
        {"tree": {"tensor": [0]}},
        {"tree": {}},
        {"tree": {"metadata": 1}},
        {"tree": {"list": []}},
        {"tree": {"dict": {}}},
        {"tree": {"dict": [["a"]]}},
        {"tree": {"dict": [[["a"], 1]]}},
        {"tree": {"dict": [["a", 1], ["a", 2]]}},
        {"tree": {"dict": [], "metadata": 1}},
        {"tree": {"ordered": 3, "metadata": 1}},
        {"tree": {"tuple": 3}},
        {"tree": {"int": 3}},
        {"tree": {"int": "0x"}},
        {"tree": {"float": "00"}},
        {"tree": {"float": None}},
        {"tree": {"float": "7ff8000000000000", "int": "0x1"}},
    ],
    ids=lambda damage: str(damage)[:40],
)
def test_a_damaged_manifest_is_a_format_error(store, damage):
    text = damage if isinstance(damage, bytes) else json.dumps({**GOOD, **damage}).encode()
    store.put_tensor("p/a", torch.ones(1))
    store.put("p/" + MANIFEST, text)
    with pytest.raises(
        moorage.FormatError, match=r"the manifest of the state dict under prefix 'p/'.* is (damaged|of v)"
    ):
        store.get_state_dict("p/")
    store.put_state_dict({"b": 1}, "p/")
    assert store.get_state_dict("p/") == {"b": 1}


def test_the_form_of_a_manifest(store):
    """What older and newer versions have to agree on."""
    store.put("p/" + MANIFEST, json.dumps(GOOD).encode())
    store.put_tensor("p/a", torch.ones(1))
    assert_same(store.get_state_dict("p/"), {"a": torch.ones(1)})
    t = torch.ones(2)
    sd = ordered({"w": t, "v": t, 0: {"x": (1, [2.5, None])}, "big": 2**53, "nan": math.nan}, {"": True})
    store.put_state_dict(sd, "q/")
    assert json.loads(store.get("q/" + MANIFEST)) == {
        "format": "moorage-state-dict",
        "version": 1,
        "tensors": ["w"],
        "tree": {
            "ordered": [
                ["w", {"tensor": 0}],
                ["v", {"tensor": 0}],
                [0, {"dict": [["x", {"tuple": [1, [2.5, None]]}]]}],
                ["big", {"int": "0x20000000000000"}],
                ["nan", {"float": "7ff8000000000000"}],
            ],
            "metadata": {"dict": [["", True]]},
        },
    }


# ---- ties ----


def test_what_is_the_same_memory_is_one_object(store):
    t = torch.arange(6.0).view(2, 3)
    c = torch.complex(t, t)
    sd = {
        "t": t,
        "again": t.detach(),
        "viewed": t.view(2, 3),
        "Parameter": nn.Parameter(t),
        "flat": t.view(6),
        "transposed": t.t(),
        "row": t[0],
        "other row": t[1],
        "as int": t.view(torch.int32),
        "c": c,
        "conj": c.conj(),
        "c again": c,
        "nested": [(t,)],
        "empty": torch.empty(0),
        "other empty": torch.empty(0),
    }
    got = round_trip(store, sd)
    assert_same(got, {key: t.resolve_conj() if key == "conj" else t for key, t in sd.items()})
    tied = [got["t"], got["again"], got["viewed"], got["Parameter"], got["nested"][0][0]]
    assert all(one is tied[0] for one in tied)
    assert got["c again"] is got["c"] and got["conj"] is not got["c"]
    assert len({id(t) for key, t in got.items() if key != "nested"}) == len(sd) - 1 - 4
    assert len(store) == len(sd) - 5 + 1  # and the manifest
    got["t"].add_(1)
    assert got["again"][0, 0] == 1 and got["row"][0] == 0
    assert not store.exists("p/again")


class Tied(nn.Module):
    """An embedding and a projection that are one matrix, as language models have."""

    def __init__(self, n=64, width=300):
        super().__init__()
        self.embed = nn.Embedding(n, width)
        self.norm = nn.BatchNorm1d(width)
        self.project = nn.Linear(width, n, bias=False)
        self.project.weight = self.embed.weight

    def forward(self, x):
        return self.project(self.norm(self.embed(x)))


def train(model, optimizer, steps):
    inputs = torch.arange(8) if isinstance(model, Tied) else torch.linspace(-1, 1, 24).view(8, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)


def test_tied_weights_stay_tied(store):
    torch.manual_seed(3)
    model = Tied()
    model.embed.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    store.put_state_dict(model.state_dict(), "m/")
    assert "m/project.weight" not in store and store.stats().windows == 0
    other = Tied()
    other.embed.weight.requires_grad_(False)
    assert store.assign_to(other, "m/") == ([], [])
    assert other.project.weight is other.embed.weight
    assert not other.embed.weight.requires_grad and other.norm.weight.requires_grad
    assert type(other.embed.weight) is nn.Parameter and type(other.norm.running_mean) is torch.Tensor
    assert store.stats().windows == 1
    other.embed.weight.requires_grad_(True)
    train(other, adam(other), 3)
    assert other.project.weight is other.embed.weight
    assert not torch.equal(other.embed.weight, before["embed.weight"])
    assert_same(dict(store.get_state_dict("m/")), dict(before))


def test_a_module_on_the_meta_device(store):
    model = Tied()
    store.put_state_dict(model.state_dict(), "m/")
    with torch.device("meta"):
        other = Tied()
    store.assign_to(other, "m/")
    assert other.project.weight is other.embed.weight
    assert torch.equal(other.eval()(torch.arange(4)), model.eval()(torch.arange(4)))


def test_what_is_one_in_the_module_stays_one(store):
    model = Tied()
    store.put_tensors(dict(model.state_dict()), if_exists="replace")  # two objects of the same bytes
    other = Tied()
    store.assign_to(other)
    assert other.project.weight is other.embed.weight
    store.put_tensor("project.weight", model.embed.weight + 1)
    before = dict(other.named_parameters())
    with pytest.raises(moorage.InvalidArgumentError, match="'embed.weight' and 'project.weight'.*untie"):
        store.assign_to(other)
    assert all(one is before[name] for name, one in other.named_parameters())
    store.remove("project.weight")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "project.weight"'):
        store.assign_to(other)
    assert store.assign_to(other, strict=False).missing_keys == ["project.weight"]
    assert other.project.weight is other.embed.weight


def test_what_is_tied_in_the_store_becomes_one_parameter(store):
    store.put_state_dict(Tied().state_dict())
    other = Tied()
    other.project.weight = nn.Parameter(torch.zeros(64, 300))
    store.assign_to(other)
    assert other.project.weight is other.embed.weight


# ---- assign_to ----


def errors_of(load):
    with pytest.raises(RuntimeError) as caught:
        load()
    return str(caught.value)


@pytest.mark.parametrize("strict", [True, False])
def test_errors_are_those_of_torch_and_change_nothing(store, strict):
    def model():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    sd = model().state_dict()
    cases = {
        "missing": {key: t for key, t in sd.items() if key != "1.bias"},
        "unexpected": {**sd, "2.weight": torch.ones(1), "odd": torch.ones(1)},
        "shape": {**sd, "0.weight": torch.ones(5, 5)},
        "no tensor": {**sd, "0.weight": 3},
        "dtype": {**sd, "0.weight": torch.ones(4, 3, dtype=torch.int64)},
    }
    for name, case in cases.items():
        store.put_state_dict(case, f"{name}/")
        ordinary, ours = model(), model()
        before = {key: (id(t), raw(t)) for key, t in [*ours.named_parameters(), *ours.named_buffers()]}
        if strict or name not in ("missing", "unexpected"):
            says = errors_of(lambda: ordinary.load_state_dict(case, strict=strict, assign=True))  # noqa: B023
            assert errors_of(lambda: store.assign_to(ours, f"{name}/", strict=strict)) == says  # noqa: B023
            assert {key: (id(t), raw(t)) for key, t in [*ours.named_parameters(), *ours.named_buffers()]} == before
        else:
            expected = ordinary.load_state_dict(case, strict=False, assign=True)
            assert store.assign_to(ours, f"{name}/", strict=False) == expected


def test_what_is_no_module_and_what_is_no_modules_state(store):
    store.put_state_dict({"a": torch.ones(1)})
    for what in (None, {}, nn.Linear, "model"):
        with pytest.raises(TypeError, match="module must be a torch.nn.Module"):
            store.assign_to(what)
    store.put_state_dict({0: torch.ones(1)}, "ints/")
    with pytest.raises(moorage.InvalidArgumentError, match="not a module's"):
        store.assign_to(nn.Linear(1, 1), "ints/")
    with pytest.raises(KeyError, match="'nothing/'"):
        store.assign_to(nn.Linear(1, 1), "nothing/")


def test_extra_state_and_lazy_modules(store):
    class WithExtra(nn.Linear):
        extra = None

        def get_extra_state(self):
            return {"seen": (1, "two")}

        def set_extra_state(self, state):
            self.extra = state

    model = WithExtra(2, 2)
    store.put_state_dict(model.state_dict(), "m/")
    other = WithExtra(2, 2)
    store.assign_to(other, "m/")
    assert other.extra == {"seen": (1, "two")}
    store.put_state_dict(nn.Linear(3, 4).state_dict(), "l/")
    lazy = nn.LazyLinear(4)
    store.assign_to(lazy, "l/")
    assert lazy.weight.shape == (4, 3)


def test_modes_and_devices(open_store):
    store = open_store(mode="view")
    sd = {"large": torch.ones(1 << 15), "n": {"small": torch.tensor(2.0)}, "k": 3}
    store.put_state_dict(sd, "p/")
    assert_same(store.get_state_dict("p/"), sd)
    assert store.stats().windows == 0 and store.stats().bytes_copied_out < 4096
    assert store.get_state_dict("p/")["large"].data_ptr() == store.get_tensor("p/large").data_ptr()
    store.get_state_dict("p/", mode="cow")["large"].add_(1)
    assert_same(store.get_state_dict("p/", device="cpu"), sd)
    on_meta = store.get_state_dict("p/", device="meta")
    assert on_meta["large"].is_meta and on_meta["n"]["small"].shape == () and on_meta["k"] == 3


def test_it_outlives_key_and_store(open_store):
    store = open_store()
    store.put_state_dict({"a": torch.full((1 << 15,), 7.0)}, "p/")
    got = store.get_state_dict("p/")
    store.clear()
    store.close()
    assert got["a"].min() == 7


def test_a_closed_store(open_store):
    store = open_store()
    store.close()
    for call in (lambda: store.put_state_dict({}), store.get_state_dict, lambda: store.assign_to(nn.Linear(1, 1))):
        with pytest.raises(moorage.ClosedError):
            call()


# ---- replacing ----


def test_what_the_next_one_does_not_have_is_removed(store):
    held = {"a": torch.ones(1), "b": torch.full((1 << 15,), 2.0), "n": {"x": torch.ones(3)}}
    store.put_tensor("p/other", torch.ones(1))
    store.put_state_dict(held, "p/")
    old = store.get_state_dict("p/")
    store.put_state_dict({"a": torch.zeros(1), "n": 1}, "p/")
    assert sorted(store.keys()) == ["p/" + MANIFEST, "p/a", "p/other"]
    assert_same(store.get_state_dict("p/"), {"a": torch.zeros(1), "n": 1})
    assert_same(old, held)
    store.put_state_dict({}, "p/")
    assert store.get_state_dict("p/") == {} and sorted(store.keys()) == ["p/" + MANIFEST, "p/other"]


# ---- optimizers ----


def saved(sd):
    """Through torch.save and torch.load."""
    file = io.BytesIO()
    torch.save(sd, file)
    file.seek(0)
    return torch.load(file)


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW, amsgrad, foreach": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True, foreach=True),
    "Adam, lr a tensor": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_after_resuming_equal_those_after_torch_load(store, name):
    torch.manual_seed(4)
    steps = 10

    def network():
        return nn.Sequential(nn.Linear(32, 600), nn.Tanh(), nn.Linear(600, 8))

    def go_on(model, optimizer):
        generator = torch.Generator().manual_seed(5)
        for _ in range(steps):
            given = torch.randn(16, 32, generator=generator)

            def loss(given=given):
                optimizer.zero_grad()
                value = model(given).square().mean()
                value.backward()
                return value

            optimizer.step(loss)

    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    go_on(model, optimizer)
    kept = saved(model.state_dict()), saved(optimizer.state_dict())
    store.put_state_dict(model.state_dict(), "model/")
    store.put_state_dict(optimizer.state_dict(), "optimizer/")
    assert_same(store.get_state_dict("optimizer/"), kept[1])

    ordinary = network()
    ordinary.load_state_dict(kept[0])
    resumed = OPTIMIZERS[name](ordinary.parameters())
    resumed.load_state_dict(kept[1])
    go_on(ordinary, resumed)

    with torch.device("meta"):
        ours = network()
    store.assign_to(ours, "model/")
    from_store = OPTIMIZERS[name](ours.parameters())
    from_store.load_state_dict(store.get_state_dict("optimizer/"))
    go_on(ours, from_store)

    assert_same(dict(ours.state_dict()), dict(ordinary.state_dict()))
    assert_same(from_store.state_dict(), resumed.state_dict())
    before = saved(model.state_dict()), saved(optimizer.state_dict())
    assert_same(store.get_state_dict("model/"), before[0])
    assert_same(store.get_state_dict("optimizer/"), before[1])


def test_a_scheduler(store):
    model = nn.Linear(1, 1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD(model.parameters(), lr=0.1), 10)
    sd = scheduler.state_dict()
    assert_same(round_trip(store, sd), sd)


# ---- processes ----


def test_in_a_forked_child(store):
    """No waiting for a lock that nobody in the child will let go; what was read before the fork goes on."""
    model = Tied()
    store.put_state_dict(model.state_dict(), "m/")
    store.assign_to(model, "m/")
    sd = store.get_state_dict("m/")

    def work():
        for call in (lambda: store.put_state_dict({}), store.get_state_dict, lambda: store.assign_to(model)):
            with pytest.raises(moorage.ForkedError):
                call()
        train(model, adam(model), 2)
        return model.project.weight is model.embed.weight and bool(torch.isfinite(model.embed.weight).all())

    with store._publishing:  # as if another thread was in the middle of it
        assert in_child(work) == "True"
    assert_same(dict(store.get_state_dict("m/")), dict(sd))


def test_a_vmapped_tensor_is_refused_with_its_path(store):
    def inner(x):
        with pytest.raises(moorage.UnsupportedError, match=r"sd\['a'\]: .*"):
            store.put_state_dict({"a": x})
        return x

    torch.vmap(inner)(torch.ones(3, 2))
    assert len(store) == 0


# ---- what happens in the middle of a read ----


def between(store, monkeypatch, publish):
    """Has `publish` called after a reader has looked, and before it holds anything."""
    real = store.snapshot

    def snapshot(*arguments, **options):
        publish()
        return real(*arguments, **options)

    monkeypatch.setattr(store, "snapshot", snapshot)


def test_a_state_dict_that_comes_while_there_was_none(store, monkeypatch):
    store.put_tensor("p/other", torch.ones(1))
    between(store, monkeypatch, lambda: store.put_state_dict({"n": 1, "t": torch.ones(1)}, "p/"))
    assert_same(store.get_state_dict("p/"), {"n": 1, "t": torch.ones(1)})


def test_other_names_in_the_middle_of_a_read(store, monkeypatch):
    turns = iter([{"a": torch.ones(1), "c": 1}, {"b": torch.zeros(2)}, {}])
    last = {"d": torch.ones(3)}
    store.put_state_dict({"a": torch.zeros(1)}, "p/")
    between(store, monkeypatch, lambda: store.put_state_dict(next(turns, last), "p/"))
    assert_same(store.get_state_dict("p/"), {"a": torch.ones(1), "c": 1})  # the same names: they were held at once
    assert_same(store.get_state_dict("p/"), last)


def test_a_reader_gives_up_in_the_end(store, monkeypatch):
    counter = itertools.count()
    store.put_state_dict({"t": torch.ones(1)}, "p/")
    between(store, monkeypatch, lambda: store.put_state_dict({f"t{next(counter)}": torch.ones(1)}, "p/"))
    with pytest.raises(moorage.BusyError, match="under prefix 'p/' was replaced by others 100 times while it was read"):
        store.get_state_dict("p/")
    assert next(counter) == 100
