"""A device for torch whose memory is numpy's: torch's own mechanism for devices that are not its own (PrivateUse1).

To be imported in a process that ends afterwards: a device cannot be taken back. Tensors on it have no address that
could be read; their bytes are reached by torch's copies only, as those of a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

NAME = "pier"

copies: list[tuple[str, str, bool]] = []  # from, to, non_blocking
failing: list[Exception] = []  # raised by the next copy
_memory: Any = WeakTensorKeyDictionary()


def _made(size: Any, dtype: Any, data: Any = None) -> torch.Tensor:
    made = torch._C._acc.create_empty_tensor(tuple(size), dtype)
    _memory[made] = np.zeros(tuple(size), _like(dtype)) if data is None else data
    return made


def _like(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype


def _empty(size: Any, *_: Any, dtype: Any = None, **__: Any) -> torch.Tensor:
    return _made(size, dtype or torch.float32)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    if failing:
        raise failing.pop()
    copies.append((source.device.type, target.device.type, non_blocking))
    if source.device.type == NAME and target.device.type == NAME:
        _memory[target][...] = _memory[source]
    elif target.device.type == NAME:
        _memory[target][...] = source.detach().numpy()
    else:
        target.copy_(torch.from_numpy(_memory[source]))
    return target


def register() -> None:
    from torch.utils import backend_registration

    backend_registration._setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")
    globals()["_library"] = library  # for good
    key = "PrivateUse1"
    library.impl("empty.memory_format", _empty, key)
    library.impl("empty_strided", _empty, key)
    library.impl("_copy_from", _copy_from, key)
    library.impl("detach", lambda t: _made(t.shape, t.dtype, _memory[t]), key)
    library.impl("view", lambda t, size: _made(size, t.dtype, _memory[t].reshape(size)), key)


def supported() -> bool:
    from torch.utils import backend_registration

    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
