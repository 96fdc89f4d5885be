"""Many puts as few calls: what is plain goes through the library together, the rest one by one."""

from __future__ import annotations

from typing import Any, Callable

from . import _abi, _memory
from .errors import MoorageError, UnsupportedError


class BatchPut:
    """One `put_tensors`, in the order of the pairs.

    `put_many` (see `_builtin`) takes runs of tensors. `put_one` takes those that stand alone, and those that failed, to
    have the words for it: trying one again later comes to the same as long as no key comes twice.
    """

    def __init__(
        self, put_many: Callable[..., Any], put_one: Callable[[Any, Any], bool], fail: Callable[[int], None], how: int
    ) -> None:
        self._put_many = put_many
        self._put_one = put_one
        self._fail = fail
        self._how = how
        self.results: dict[Any, Any] = {}
        self.first: Exception | None = None

    def put(self, keys: list[Any], tensors: list[Any]) -> None:
        if len(set(keys)) != len(keys):
            self._take(keys, tensors, [None] * len(keys))
            return
        done = 0
        while done < len(keys):
            outcomes = self._put_many(keys, tensors, self._how, done)
            if outcomes is None:  # one of the keys cannot be used
                outcomes = [None] * (len(keys) - done)
            elif not outcomes:  # the next tensor has to be looked at
                outcomes = [None]
            end = done + len(outcomes)
            self._take(keys[done:end], tensors[done:end], outcomes)
            done = end

    def _take(self, keys: list[Any], tensors: list[Any], outcomes: list[int | None]) -> None:
        if outcomes.count(_abi.STORED) == len(keys):
            self.results.update(dict.fromkeys(keys, True))
            return
        for key, t, outcome in zip(keys, tensors, outcomes):
            if outcome is not None and outcome >= 0:
                self.results[key] = outcome != _abi.KEPT
            else:
                self._alone(key, t, outcome)

    def _alone(self, key: Any, t: Any, status: int | None) -> None:
        try:
            if status == _abi.CANCELLED:  # by close(): another try would find the store closed
                self._fail(status)
            self.results[key] = self._put_one(key, t)
        except (MoorageError, TypeError, ValueError) as error:
            self.results[key] = error
            self.first = self.first or error


class _NoTensor(Exception):
    pass


class Structs:
    """Makes structs of any tensors that a store takes, and keeps what they borrow until `end`. `torch` and `numpy`, our
    modules, are None as long as nobody has imported them.
    """

    def __init__(self, torch: Any, numpy: Any, plain: Any) -> None:
        self._torch = torch
        self._numpy = numpy
        self._plain = plain
        self._kept: list[Any] = []

    def of(self, pairs: list[tuple[Any, Any]]) -> list[Any]:
        """One for each pair of key and tensor. All of them are prepared first, which may run the caller's Python. Where
        the memory of torch tensors is, which may be resized meanwhile, is asked last.
        """
        prepared = [self._prepare(key, t) for key, t in pairs]
        return [self._torch.struct(p) if type(p) is not _abi.DLTensor else p for p in prepared]

    def _prepare(self, key: Any, t: Any) -> Any:
        """A struct, or a torch tensor to make one of."""
        try:
            return self._of(t)
        except UnsupportedError as error:
            raise UnsupportedError(f"the tensor of key {key!r}: {error}") from None
        except _NoTensor:
            raise TypeError(
                f"the tensor of key {key!r} must be a torch tensor, a numpy array or anything with __dlpack__, not "
                f"{type(t).__name__}"
            ) from None

    def _of(self, t: Any) -> Any:
        torch, numpy = self._torch, self._numpy
        if torch is not None and isinstance(t, torch.Tensor):
            t = torch.prepare(t)
            self._kept.append(t if t.device.type == "cpu" else t.cpu())
            return self._kept[-1]
        if numpy is not None and isinstance(t, (numpy.np.ndarray, numpy.np.generic)):
            return self._of_array(*numpy.prepare(t))
        if hasattr(t, "__dlpack__"):
            managed = self._plain.capsules.of_producer(t)
            self._kept.append(managed)
            return managed.dl_tensor
        raise _NoTensor

    def _of_array(self, array: Any, triple: Any) -> Any:
        loan = _memory.strided(array)
        if loan is None:
            raise UnsupportedError(f"t, an array of dtype {array.dtype}, gives no buffer; put a copy of it")
        self._kept.append(loan)
        steps = tuple([step // loan.itemsize for step in loan.strides])
        return _memory.tensor_struct(loan.address, triple, loan.shape, steps)

    def end(self) -> None:
        for one in self._kept:
            if type(one) is _memory.Loan:
                one.end()
        self._kept.clear()
