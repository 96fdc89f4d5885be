"""The manifest of a state dict: everything of it that is not tensor bytes, as JSON. Knows neither torch nor a store.

The manifest of a state dict under `prefix` is the object `prefix + MANIFEST`, UTF-8 text:

    {"format": "moorage-state-dict", "version": 1, "tensors": ["weight", "state/0/step"], "tree": NODE}

`tensors` are keys without the prefix. Each key is the names on the way to the tensor, joined by "/", as they are; one
that is taken already, empty, or the manifest's own, gets "%1", "%2" ... behind it. A NODE is one of

    null, true, false, "text", 17, 0.5       None, bool, str, int below 2**53 and finite float
    [NODE, ...]                              list
    {"int": "-0x1f..."}                      any other int
    {"float": "7ff8000000000000"}            NaN and infinity: the bits, most significant first
    {"tensor": 3}                            a tensor, by its place in `tensors`; twice the same place is one tensor
    {"tuple": [NODE, ...]}
    {"dict": [[KEY, NODE], ...]}             in the order of the dict; KEY is a NODE of one of the first two lines
    {"ordered": [[KEY, NODE], ...]}          an OrderedDict; with "metadata": NODE, if it has an attribute _metadata

Readers refuse another version, and anything that is not one of these.
"""

from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, Callable, NoReturn

from .errors import FormatError

MANIFEST = "%state_dict"

_FORMAT, _VERSION = "moorage-state-dict", 1
_EXACT = 2**53  # what a JSON reader that has only doubles still reads exactly
MAX_DEPTH = 64

_NEITHER = object()

Path = tuple[Any, ...]


def shown(path: Path) -> str:
    """A path as Python would write it: sd['state'][0]['step']."""
    return "sd" + "".join(f"[{_short(part)}]" for part in path)


def _short(part: Any) -> str:
    text = hex(part) if type(part) is int and abs(part) >= _EXACT else repr(part)
    return text if len(text) <= 80 else text[:77] + "..."


class Flat:
    """A state dict taken apart, into `tensors` by key and a tree.

    `tensor_of(value, path)` gives the tensor to store for a value that is one, and what tells it from the others;
    None for a value that is none.
    """

    def __init__(self, sd: Any, tensor_of: Callable[[Any, Path], tuple[Any, Hashable] | None]) -> None:
        self.tensors: dict[str, Any] = {}
        self._tensor_of = tensor_of
        self._places: dict[Hashable, int] = {}
        self._open: set[int] = set()  # the containers on the way to where we are
        self._tree = self._node(sd, ())

    def manifest(self) -> bytes:
        whole = {"format": _FORMAT, "version": _VERSION, "tensors": list(self.tensors), "tree": self._tree}
        return json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()

    def _node(self, value: Any, path: Path) -> Any:
        scalar = _scalar_node(value)
        if scalar is not _NEITHER:
            return scalar
        found = self._tensor_of(value, path)
        if found is not None:
            return {"tensor": self._place(*found, path)}
        if type(value) not in (dict, OrderedDict, list, tuple):
            raise TypeError(
                f"{shown(path)} is of type {type(value).__module__}.{type(value).__qualname__}; a state dict that is "
                "stored holds tensors, dict, OrderedDict, list, tuple, str, int, float, bool and None"
            )
        if id(value) in self._open:
            raise TypeError(f"{shown(path)} holds itself")
        if len(path) >= MAX_DEPTH:
            raise TypeError(f"{shown(path[:3])}... is nested deeper than {MAX_DEPTH} levels")
        self._open.add(id(value))
        node = self._container(value, path)
        self._open.remove(id(value))
        return node

    def _container(self, value: Any, path: Path) -> Any:
        if isinstance(value, (list, tuple)):
            items = [self._node(item, (*path, i)) for i, item in enumerate(value)]
            return items if type(value) is list else {"tuple": items}
        pairs = [[self._key(key, path), self._node(item, (*path, key))] for key, item in value.items()]
        if type(value) is dict:
            return {"dict": pairs}
        node = {"ordered": pairs}
        if hasattr(value, "_metadata"):
            node["metadata"] = self._node(value._metadata, (*path, "_metadata"))
        return node

    def _key(self, key: Any, path: Path) -> Any:
        node = _scalar_node(key)
        if node is _NEITHER:
            raise TypeError(
                f"{shown(path)} has a key of type {type(key).__qualname__}; keys can be str, int, float, bool and None"
            )
        return node

    def _place(self, tensor: Any, identity: Hashable, path: Path) -> int:
        place = self._places.get(identity)
        if place is None:
            place = self._places[identity] = len(self.tensors)
            self.tensors[self._name(path)] = tensor
        return place

    def _name(self, path: Path) -> str:
        name = wanted = "/".join(part if isinstance(part, str) else _short(part) for part in path)
        count = 0
        while not name or name == MANIFEST or name in self.tensors:
            count += 1
            name = f"{wanted}%{count}"
        return name


def _scalar_node(value: Any) -> Any:
    """The node of a scalar; `_NEITHER` for anything else. Subclasses are something else: they would not come back."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) < _EXACT else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    return _NEITHER


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} stands in it")


_DICTS: dict[str, Callable[[], Any]] = {"dict": dict, "ordered": OrderedDict}


class Manifest:
    """A manifest that was read: `names` of the tensors, and `build` to put them together.

    FormatError when it is damaged; `place` says in it where it was found.
    """

    def __init__(self, text: bytes, place: str) -> None:
        self._where = place
        try:
            whole = json.loads(text.decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            self._refuse(str(error))
        if not isinstance(whole, dict) or whole.get("format") != _FORMAT:
            self._refuse("it is no manifest of a state dict")
        if whole.get("version") != _VERSION:
            raise FormatError(f"{place} is of version {whole.get('version')!r}; this Moorage reads version {_VERSION}")
        names = whole.get("tensors")
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            self._refuse("tensors are no list of keys")
        if len(set(names)) != len(names):
            self._refuse("tensors hold a key twice")
        self.names: list[str] = names
        self._tree = whole.get("tree")
        self._tensors: Sequence[Any] = ()
        self.build(names)  # whatever is wrong with the tree is found before anything is fetched

    def build(self, tensors: Sequence[Any]) -> Any:
        """The state dict, with these tensors for `names`."""
        self._tensors = tensors
        try:
            return self._value(self._tree, 0)
        finally:
            self._tensors = ()

    def _value(self, node: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self._refuse(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, list):
            return [self._value(one, depth + 1) for one in node]
        if not isinstance(node, dict) or "int" in node or "float" in node:
            return self._scalar(node)
        if set(node) == {"ordered", "metadata"}:
            made = self._pairs(node["ordered"], OrderedDict, depth)
            made._metadata = self._value(node["metadata"], depth + 1)
            return made
        if len(node) == 1:
            ((kind, held),) = node.items()
            if kind == "tensor":
                return self._tensor(held)
            if kind == "tuple" and isinstance(held, list):
                return tuple([self._value(one, depth + 1) for one in held])
            if kind in _DICTS:
                return self._pairs(held, _DICTS[kind], depth)
        self._refuse("a node of no known kind")

    def _pairs(self, pairs: Any, kind: Callable[[], Any], depth: int) -> Any:
        made = kind()
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            self._refuse("a dict is no list of pairs")
        for pair in pairs:
            made[self._scalar(pair[0])] = self._value(pair[1], depth + 1)
        if len(made) != len(pairs):
            self._refuse("a dict holds a key twice")
        return made

    def _scalar(self, node: Any) -> Any:
        if node is None or isinstance(node, (bool, str, int, float)):
            return node
        try:
            if isinstance(node, dict) and len(node) == 1:
                if "int" in node:
                    return int(node["int"], 16)
                if "float" in node:
                    (number,) = struct.unpack(">d", bytes.fromhex(node["float"]))
                    return number
        except (TypeError, ValueError, struct.error):
            pass
        self._refuse("a scalar of no known kind")

    def _tensor(self, place: Any) -> Any:
        if type(place) is not int or not 0 <= place < len(self._tensors):
            self._refuse("a tensor that is not listed")
        return self._tensors[place]

    def _refuse(self, what: str) -> NoReturn:
        raise FormatError(f"{self._where} is damaged: {what}")
