"""State dicts in a store: published at one point, read as one generation, hung into a module.

The tensors are objects of their own, under `prefix` + their name, so that `get_tensor("model/encoder.weight")` finds
what `put_state_dict(sd, "model/")` stored. What joins them is a manifest, `prefix + MANIFEST` (see `_manifest`). It
names its tensors exactly: other objects under the prefix are none of its business. Manifest and tensors are
published together; tensors that only the one before had are removed after that, while whoever reads the old generation
holds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from . import _abi, _lib
from ._manifest import MANIFEST, Flat, Manifest, Path, shown
from .errors import BusyError, FormatError, InvalidArgumentError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from .store import Mode, Store

__all__ = ["MANIFEST", "assign", "publish", "read"]

# How often the set of tensors may change under a reader before it gives up.
_TRIES = 100


# ---- in ----


def publish(store: Store, module: Any, sd: Any, prefix: str) -> None:
    """`Store.put_state_dict`; `module` is moorage.torch."""
    if type(sd) not in (dict, OrderedDict):
        raise TypeError(f"sd must be a dict or an OrderedDict, as state_dict() gives it, not {type(sd).__name__}")
    _lib.encode_key(prefix)
    flat = Flat(sd, lambda value, path: _tensor_of(module, value, path))
    items = {prefix + name: t for name, t in flat.tensors.items()}
    items[prefix + MANIFEST] = module.torch.frombuffer(bytearray(flat.manifest()), dtype=module.torch.uint8)
    len(store)  # closed, or forked with the lock held: say so rather than wait
    with store._publishing:
        before = _keys_of(store, prefix)
        store.put_tensors(items, atomic=True)
        for key in before:
            if key not in items:
                store.remove(key, missing_ok=True)


def _tensor_of(module: Any, value: Any, path: Path) -> tuple[Any, Hashable] | None:
    if not isinstance(value, module.Tensor):
        return None
    try:
        plain = module.is_plain(value) and module.is_dense_cpu(value)
        return value if plain else module.prepare(value), _identity(module, value)
    except UnsupportedError as error:
        raise UnsupportedError(f"{shown(path)}: {error}") from None


def _identity(module: Any, t: Any) -> Hashable:
    """Equal for tensors that are the same elements of the same memory, in the same order."""
    address = module.address_of(t, "t")
    if not address or not t.numel():
        return id(t)
    return (address, str(t.device), t.dtype, tuple(t.shape), t.stride(), t.is_conj(), t.is_neg())


def _keys_of(store: Store, prefix: str) -> list[str]:
    """The keys of the state dict that is there, as far as that can be known."""
    key = prefix + MANIFEST
    text = store.get(key)
    try:
        return [] if text is None else [prefix + name for name in _parsed(text, prefix).names]
    except FormatError:
        return []


def _parsed(text: bytes, prefix: str) -> Manifest:
    """FormatError for a manifest that is damaged, or names what cannot be a key."""
    place = f"the manifest of the state dict under prefix {prefix!r}, object {prefix + MANIFEST!r},"
    manifest = Manifest(text, place)
    for name in manifest.names:
        try:
            size = len((prefix + name).encode())
        except UnicodeEncodeError:
            size = 0
        if not 0 < size <= _abi.MAX_KEY:
            raise FormatError(f"{place} is damaged: {name[:80]!r} is no key")
    return manifest


# ---- out ----


def read(store: Store, prefix: str, mode: Mode | None, device: Any) -> Any:
    """`Store.get_state_dict`."""
    _lib.encode_key(prefix)
    store._look.number(mode)
    key = prefix + MANIFEST
    for _ in range(_TRIES):
        text = store.get(key)
        found = _flat(store, prefix, mode, device) if text is None else _once(store, prefix, text, mode, device)
        if found is not None:
            return found
    raise BusyError(f"the state dict under prefix {prefix!r} was replaced by others {_TRIES} times while it was read")


def _once(store: Store, prefix: str, text: bytes, mode: Mode | None, device: Any) -> Any:
    """One try to read the generation whose manifest has just been seen: None when another set of tensors took its place
    before they were held.
    """
    key = prefix + MANIFEST
    manifest = _parsed(text, prefix)
    names = manifest.names
    try:
        snapshot = store.snapshot([key, *(prefix + name for name in names)])
    except NotFoundError as error:
        if store.get(key) != text:
            return None
        raise NotFoundError(f"the state dict under prefix {prefix!r} has lost a tensor: {error}") from None
    with closing(snapshot):
        held = bytes(snapshot.get_buffer(key))
        if held != text:
            manifest = _parsed(held, prefix)
        if not set(manifest.names).issubset(names):
            return None
        return manifest.build([_tensor(store, snapshot, prefix + name, mode, device) for name in manifest.names])


def _flat(store: Store, prefix: str, mode: Mode | None, device: Any) -> dict[str, Any] | None:
    """Tensors that came without a manifest, by their keys; None when a manifest has come meanwhile."""
    with closing(store.snapshot(prefix=prefix)) as snapshot:
        if prefix + MANIFEST in snapshot:
            return None
        keys = [key for key in sorted(snapshot) if not key.endswith(MANIFEST) and snapshot.get_buffer(key).dtype]
        if not keys:
            raise NotFoundError(f"no state dict and no tensors under prefix {prefix!r}")
        return {key[len(prefix) :]: _tensor(store, snapshot, key, mode, device) for key in keys}


def _tensor(store: Store, snapshot: Any, key: str, mode: Mode | None, device: Any) -> Any:
    module = store._torch()
    where = None if device is None else module.device_of(device)
    if where is None or where.type == "cpu":
        return snapshot.get_tensor(key, mode=mode)
    return module.on_device(snapshot.get_tensor(key, mode="view"), where, False)


# ---- into a module ----


def assign(store: Store, torch: Any, module: Any, prefix: str, strict: bool) -> Any:
    """`Store.assign_to`."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    sd = read(store, prefix, None, None)
    for name in sd:
        if not isinstance(name, str):
            raise InvalidArgumentError(
                f"the state dict under prefix {prefix!r} is not a module's: it has a key {name!r}"
            )
    ties = _Ties(torch, module, sd)
    with _all_or_nothing(module):
        outcome = module.load_state_dict(ties.entries, strict=bool(strict), assign=True)
        ties.hang_missing()
    return outcome


@contextmanager
def _all_or_nothing(module: Any) -> Iterator[None]:
    """load_state_dict assigns what fits, and raises then; after this the module is as it was."""
    before = [(part, dict(part._parameters), dict(part._buffers)) for part in module.modules()]
    try:
        yield
    except BaseException:
        for part, parameters, buffers in before:
            part._parameters.update(parameters)
            part._buffers.update(buffers)
        raise


class _Ties:
    """The entries of a state dict with one Parameter for each tensor: load_state_dict(assign=True) would make one for
    each name. What is one parameter in the module stays one, too.
    """

    def __init__(self, torch: Any, module: Any, sd: Any) -> None:
        self._torch = torch
        self._module = module
        self.entries = sd
        self._made: dict[Hashable, Any] = {}
        self._first: dict[int, str] = {}  # of each parameter of the module that has an entry
        self._missing: list[tuple[str, int]] = []
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if name in sd:
                self._take(name, parameter)
            else:
                self._missing.append((name, id(parameter)))

    def _take(self, name: str, parameter: Any) -> None:
        entries, torch = self.entries, self._torch
        given = entries[name]
        if not isinstance(given, torch.Tensor) or (parameter.requires_grad and not _can_have_grad(given)):
            return  # load_state_dict has the words
        first = self._first.setdefault(id(parameter), name)
        if first != name:
            self._same(first, name)
            entries[name] = entries[first]
            return
        key = (id(given), parameter.requires_grad)
        if key not in self._made:
            self._made[key] = torch.nn.Parameter(given, requires_grad=parameter.requires_grad), given  # keeps its id
        entries[name] = self._made[key][0]

    def _same(self, first: str, name: str) -> None:
        a, b = self.entries[first].detach(), self.entries[name]
        if (a.dtype, a.shape) == (b.dtype, b.shape) and (a.data_ptr() == b.data_ptr() or self._equal(a, b)):
            return
        raise InvalidArgumentError(
            f"module has one parameter under the names {first!r} and {name!r}, and the state dict has different values "
            "for them; untie them in the module first"
        )

    def _equal(self, a: Any, b: Any) -> bool:
        """Bit by bit: NaN equals itself."""
        bits = self._torch.uint8
        return not a.numel() or bool(self._torch.equal(a.reshape(-1).view(bits), b.reshape(-1).view(bits)))

    def hang_missing(self) -> None:
        """With strict=False, a name without an entry goes on being the parameter that it was tied to."""
        for name, parameter in self._missing:
            first = self._first.get(parameter)
            if first is not None:
                owner, _, leaf = name.rpartition(".")
                self._module.get_submodule(owner)._parameters[leaf] = self.entries[first]


def _can_have_grad(t: Any) -> bool:
    return bool(t.is_floating_point() or t.is_complex())
