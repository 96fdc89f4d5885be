"""A sentence encoder whose weights lie in a store: bit for bit what the ordinary load gives, in the process that opened
the store and in the workers of a DataLoader, and in memory once.

MOORAGE_MODEL is a folder somewhere in which model.safetensors, config.json and the tokenizer lie.
"""

from __future__ import annotations

import gc
import os
import re
import time
from pathlib import Path

import pytest

import moorage

torch = pytest.importorskip("torch", reason="probed for torch: not installed")
transformers = pytest.importorskip("transformers", reason="probed for transformers: not installed")
if "MOORAGE_MODEL" not in os.environ:
    pytest.skip("probed MOORAGE_MODEL: not set (tests/e2e/run.sh sets it)", allow_module_level=True)

from torch.utils.data import DataLoader, Dataset  # noqa: E402

torch.set_num_threads(1)  # as in a worker: the number of threads decides in which order products are summed

FILE = next(Path(os.environ["MOORAGE_MODEL"]).rglob("model.safetensors"))
WEIGHTS = FILE.stat().st_size
PREFIX = "bert/"
SENTENCES = [
    "A harbour is a place on the coast where ships may moor.",
    "Tensors are kept under names.",
    "Bits!",
    "The quick brown fox jumps over the lazy dog, again and again, until somebody writes a better sentence.",
    "Was it a view or a copy?",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "1 2 3 4 5 6 7 8 9 10",
    "",
] * 4


@pytest.fixture(scope="module")
def tokens():
    """Every sentence as the model takes it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(FILE.parent)
    return [dict(tokenizer(one, return_tensors="pt")) for one in SENTENCES]


def embedding(model, given):
    """The mean of the last layer, of length 1: what this model was trained for."""
    with torch.inference_mode():
        mean = model(**given).last_hidden_state.mean(1)
        return torch.nn.functional.normalize(mean)[0].clone()


@pytest.fixture(scope="module")
def ordinary(tokens):
    """The embeddings as transformers gives them by itself."""
    model = transformers.BertModel.from_pretrained(FILE.parent).eval()
    return torch.stack([embedding(model, one) for one in tokens])


@pytest.fixture
def store():
    with moorage.Store(2 * WEIGHTS) as store:
        assert store.import_safetensors(FILE, PREFIX) == 104
        yield store
        gc.collect()
        deadline = time.monotonic() + 5  # the end of a worker is noticed behind our back
        while store.borrows() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.borrows() == []


def skeleton():
    """The model without weights: its parameters are on the meta device."""
    model = transformers.BertModel(transformers.BertConfig.from_pretrained(FILE.parent)).eval()
    for part in model.modules():
        for name, parameter in part._parameters.items():
            part._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
    return model


def assigned(store):
    model = skeleton()
    outcome = store.assign_to(model, PREFIX, strict=False)
    assert outcome == ([], ["embeddings.position_ids"])  # of an old version; no longer kept with the weights
    return model


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("mode", ["cow", "view", "copy"])
def test_out_of_the_store(tokens, ordinary, mode):
    with moorage.Store(2 * WEIGHTS, mode=mode) as store:
        store.import_safetensors(FILE, PREFIX)
        model = assigned(store)
        assert same_bits(torch.stack([embedding(model, one) for one in tokens]), ordinary)
        del model
        gc.collect()


def test_through_transformers_itself(store, tokens, ordinary):
    """from_pretrained takes a state dict, too."""
    config = transformers.BertConfig.from_pretrained(FILE.parent)
    sd = store.get_state_dict(PREFIX)
    model = transformers.BertModel.from_pretrained(None, config=config, state_dict=sd).eval()
    assert same_bits(torch.stack([embedding(model, one) for one in tokens]), ordinary)


def test_the_state_dict_of_the_module_and_back(store, tokens, ordinary):
    """put_state_dict of what was assigned, under another prefix; the first goes meanwhile."""
    model = assigned(store)
    store.put_state_dict(model.state_dict(), "again/")
    store.assign_to(model, "again/")
    for key in store.keys(PREFIX):
        store.remove(key)
    assert same_bits(torch.stack([embedding(model, one) for one in tokens]), ordinary)


# ---- workers ----


class Encoded(Dataset):
    """Encodes sentences in a worker. `model()` gives the model there, once."""

    def __init__(self, tokens, model):
        self._tokens = tokens
        self._make = model
        self._model = None

    def __len__(self):
        return len(self._tokens)

    def __getitem__(self, i):
        if self._model is None:
            before = private_bytes()
            self._model = self._make()
            self._grown = private_bytes() - before
        encoded = embedding(self._model, self._tokens[i])
        return encoded, os.getpid(), self._grown


def private_bytes():
    """Memory of this process that no other has, of any kind."""
    return sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+) kB", smaps("self/smaps_rollup"), re.M)) * 1024


def memory_of_stores(pid):
    """Of all mappings of store memory in a process: its share of what is shared (Pss), and pages of its own, which came
    of writing to copy-on-write windows (Anonymous).
    """
    found = {"Pss": 0, "Anonymous": 0}
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps(f"{pid}/smaps"), flags=re.M):
        if "memfd:moorage" in mapping.partition("\n")[0]:
            for what in found:
                found[what] += int(re.search(rf"^{what}: +(\d+) kB", mapping, re.M)[1]) * 1024
    return found


def smaps(name):
    return Path("/proc", name).read_text()


def check_workers(store, tokens, ordinary, model):
    """Two workers by fork; the memory is looked at when they have encoded everything and still live."""
    encoded = Encoded(tokens, model)
    results = iter(DataLoader(encoded, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    got, pids, grown = zip(*(next(results) for _ in tokens))
    assert same_bits(torch.stack(got), ordinary)
    assert len(set(pids)) == 2 and os.getpid() not in pids
    held = [memory_of_stores(pid) for pid in {os.getpid(), *pids}]
    assert max(grown) < WEIGHTS / 4
    assert store.stats().resident <= 1.1 * WEIGHTS
    assert sum(one["Pss"] for one in held) <= 1.1 * WEIGHTS
    assert sum(one["Anonymous"] for one in held) == 0
    assert next(results, None) is None


def test_workers_with_the_model_of_the_parent(store, tokens, ordinary):
    model = assigned(store)
    check_workers(store, tokens, ordinary, lambda: model)


def test_workers_that_hang_a_snapshot_into_their_model(store, tokens, ordinary):
    """Each worker makes the windows for its own model; meanwhile the parent has replaced everything."""
    model = skeleton()
    snapshot = store.snapshot(prefix=PREFIX)
    store.put_tensors({key: torch.zeros(1) for key in store.keys(PREFIX)})

    def in_worker():
        sd = {key[len(PREFIX) :]: snapshot.get_tensor(key) for key in snapshot if not key.endswith("position_ids")}
        model.load_state_dict(sd, assign=True)
        return model

    check_workers(store, tokens, ordinary, in_worker)
    snapshot.close()
