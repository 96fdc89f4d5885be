"""torch: tensors in and out. Imported when a tensor is wanted, never by `import moorage`."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from . import _abi, _dtypes, _memory
from ._lib import Library
from .buffer import Buffer
from .dlpack import Capsules
from .errors import InvalidArgumentError, UnsupportedError

Tensor = torch.Tensor

TRIPLES: dict[Any, _dtypes.Triple] = {
    getattr(torch, name): triple
    for name, triple in _dtypes.TRIPLES.items()
    if isinstance(getattr(torch, name, None), torch.dtype)
}

# Tensors of exactly these types are what they look like; other subclasses may be wrappers round something else.
PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})

# What the builtin for batches looks at: the types above, and whether a tensor is lazily negative or conjugate.
FOR_BATCHES = (torch.Tensor, torch.nn.Parameter, torch.Tensor.is_neg, torch.Tensor.is_conj)

# torch before 2.8 reads capsules of DLPack 0.x only.
HAS_DLPACK_1 = hasattr(torch._C, "_to_dlpack_versioned") or hasattr(torch.Tensor, "__dlpack_c_exchange_api__")

from_dlpack: Any = torch._C._from_dlpack


def use_exchange(library: Library) -> bool:
    """Lets the builtins make tensors through torch's own table of C functions, if this torch has one."""
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return False
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    try:
        table = pointer(capsule, b"dlpack_exchange_api")
    except (ValueError, TypeError):
        return False
    return bool(library.python.moor_py_use_exchange(table) == _abi.OK)


def from_capsule(capsule: Any, capsules: Capsules) -> Any:
    """A tensor that owns what is in the capsule."""
    try:
        return from_dlpack(capsule)
    except (RuntimeError, BufferError, ValueError, TypeError):
        # This torch knows no such dtype in DLPack. It may have one all the same: go by an integer of the same width.
        return _through_integers(capsule, capsules)


_INTEGERS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}


def _through_integers(capsule: Any, capsules: Capsules) -> Any:
    dtype = capsules.managed(capsule).dl_tensor.dtype
    name = _dtypes.name_of(dtype.code, dtype.bits, dtype.lanes) or "uint8"
    wanted = getattr(torch, name, None)
    width = dtype.bits * dtype.lanes // 8
    if not isinstance(wanted, torch.dtype) or width not in _INTEGERS:
        raise UnsupportedError(f"torch {torch.__version__} has no dtype {name}; get_buffer gives the bytes")
    dtype.code, dtype.bits, dtype.lanes = _dtypes.TRIPLES[_INTEGERS[width]]
    return from_dlpack(capsule).view(wanted)


def from_buffer(buffer: Buffer, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A tensor over a writable buffer, which it keeps."""
    if buffer.nbytes == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype).view(shape)


def is_plain(t: Any) -> bool:
    """Whether the bytes at `t.data_ptr()` are what `t` means: no lazy conjugate or minus, a dtype that can be kept."""
    return type(t) in PLAIN_TYPES and t.dtype in TRIPLES and not t.is_conj() and not t.is_neg()


def is_dense_cpu(t: Any) -> bool:
    return t.layout is torch.strided and t.device.type == "cpu"


# In it, subclasses of Tensor do not get to answer for their tensors.
_AS_TENSORS: Any = getattr(torch._C, "DisableTorchFunctionSubclass", None) or torch._C.DisableTorchFunction


def _wraps(kind: Any) -> bool:
    """Whether tensors of this type are wrappers round other tensors."""
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def plain(t: Any) -> Any:
    """A tensor of a subclass as what it is underneath; wrappers stay what they are."""
    if type(t) is Tensor or _wraps(type(t)):
        return t
    with _AS_TENSORS():
        return Tensor.as_subclass(t, Tensor)


def prepare(t: Any) -> Any:
    """The tensor as it can be stored; on whatever device it is. TypeError, which says what to do, when it cannot be."""
    kind, t = type(t), plain(t)
    _refuse(t)
    if _wraps(kind):
        raise UnsupportedError(
            f"t is a {kind.__name__}, a wrapper round other tensors; put what it holds, for example t.to_local() or "
            "t.full_tensor()"
        )
    t = t.detach()
    if t.is_conj():
        t = t.resolve_conj()
    if t.is_neg():
        t = t.resolve_neg()
    if t._is_zerotensor():
        t = t.clone()
    return t


def _refuse(t: Any) -> None:
    # Nested first: they answer few questions.
    if t.is_nested:
        raise UnsupportedError(
            "t is a nested tensor; put each of t.unbind() under a key of its own, or t.to_padded_tensor(0.0)"
        )
    if t.layout is not torch.strided:
        raise UnsupportedError(
            f"t is sparse or of another layout ({t.layout}); put t.to_dense(), or its indices and values under keys of "
            "their own"
        )
    if t.is_quantized:
        raise UnsupportedError(
            "t is quantized; put t.int_repr() with its scale and zero point in meta, or t.dequantize()"
        )
    if t.device.type == "meta":
        raise UnsupportedError(
            "t is on the meta device and has no data; materialize it first, for example by to_empty()"
        )
    if t.dtype not in TRIPLES:
        raise UnsupportedError(f"t has dtype {t.dtype}, which DLPack cannot say; put t.view(torch.uint8)")


def struct(t: Any) -> _abi.DLTensor:
    """A DLTensor of a strided tensor on the CPU. It does not keep `t`."""
    return _memory.tensor_struct(address_of(t, "t"), TRIPLES[t.dtype], tuple(t.shape), tuple(t.stride()))


def address_of(t: Any, name: str) -> int:
    try:
        return int(t.data_ptr())
    except RuntimeError as error:  # wrappers of vmap and grad, fake tensors
        raise UnsupportedError(f"{name} has no memory of its own ({error}); give a plain tensor") from None


def span(t: Any, name: str, remedy: str = "read into one and copy it over") -> tuple[int, int]:
    """Address and size of a tensor to write to."""
    t = plain(t)
    if _wraps(type(t)):
        raise UnsupportedError(f"{name} has a {type(t).__name__}, a wrapper round other tensors; give a plain tensor")
    if t.layout is not torch.strided or t.device.type != "cpu":
        raise TypeError(f"{name} must be a dense tensor on the CPU; {remedy}")
    if not t.is_contiguous() or t.is_conj() or t.is_neg():
        raise BufferError(f"{name} must be contiguous; {remedy}")
    address, size = address_of(t, name), t.numel() * t.element_size()
    if size and not address:
        raise UnsupportedError(f"{name} has no memory of its own, as a tensor of zeros only; give a plain tensor")
    return address, size


def _no_versions(_: Any) -> None:
    pass


# Tells autograd that a tensor has been written to, as an in-place operation does.
written: Any = getattr(torch.autograd.graph, "increment_version", _no_versions)


def stage(into: Any, t: Any) -> None:
    """Copies from any device into store memory, complete when it returns."""
    with torch.no_grad():
        into.copy_(t)


def device_of(device: Any) -> Any:
    """A torch.device of what a caller gave."""
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise InvalidArgumentError(f"device {device!r} is none that torch knows: {error}") from None
    except TypeError:
        raise TypeError(f"device must be a str, an int or a torch.device, not {type(device).__name__}") from None


def on_device(view: Any, device: Any, non_blocking: bool) -> Any:
    """A copy, after which the view may be let go, and its memory used again.

    CUDA has read memory that is not page-locked when a non-blocking copy returns. Of page-locked memory, and of other
    devices, nobody promises that: those copies wait.
    """
    return view.to(device, non_blocking=non_blocking and device.type == "cuda" and not view.is_pinned())


def like(shape: Any, dtype: Any) -> _abi.DLTensor:
    """What moor_empty_tensor wants to know."""
    triple = TRIPLES.get(dtype)
    if triple is None:
        raise UnsupportedError(f"a store holds no dtype {dtype}; use torch.uint8 and view it")
    return _memory.tensor_struct(0, triple, tuple(shape), None)
