"""Debug mode: who took each view that is held. `Store(debug=True)`, or MOORAGE_DEBUG=1 for all stores.

Every tensor, array and buffer that holds bytes of a store leaves a note with where it was asked for. The library marks
the note when the bytes are let go, which may happen on any thread and without Python: so a note lives as long as the
last slice or storage made from a view, not as long as the first object. Getters take the way through ctypes meanwhile.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from ctypes import byref, c_uint32, c_void_p
from typing import Any, Callable

from ._lib import Library
from ._look import SecondLook
from ._plain import PlainCalls, PlainRoute
from .dlpack import Capsules
from .errors import InvalidArgumentError, MoorageError
from .snapshot import Snapshot

_DEBUG = "MOORAGE_DEBUG"
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_DEPTH = 16  # frames that are kept, the innermost
_LOOK_FROM = 1024  # notes; from then on those that have ended are looked for now and then


def wanted() -> bool:
    """What the environment says."""
    text = os.environ.get(_DEBUG, "")
    if text not in ("", "0", "1"):
        raise InvalidArgumentError(f"{_DEBUG} must be 0 or 1, not {text!r}")
    return text == "1"


class Trace:
    """Where in the caller's code a view was asked for. Lines of source are not read before they are shown."""

    __slots__ = ("_frames", "_thread")

    def __init__(self) -> None:
        self._thread = threading.current_thread().name
        self._frames: list[tuple[str, int, str]] = []
        frame = sys._getframe(1)
        while frame is not None and len(self._frames) < _DEPTH:
            code = frame.f_code
            if self._frames or not code.co_filename.startswith(_PACKAGE):
                self._frames.append((code.co_filename, frame.f_lineno or 0, code.co_name))
            frame = frame.f_back  # type: ignore[assignment]

    def __str__(self) -> str:
        summary = traceback.StackSummary.from_list([(*frame, None) for frame in reversed(self._frames)])
        return f"Thread {self._thread!r} (most recent call last):\n" + "".join(summary.format())


class Notes:
    """The notes of one store. Safe for concurrent use."""

    def __init__(self, library: Library) -> None:
        self._calls = library.python
        self._lock = threading.Lock()
        self._held: dict[int, tuple[int, Trace]] = {}  # note -> record, trace
        self._look_at = _LOOK_FROM
        self._snapshots: list[tuple[weakref.ref[DebugSnapshot], Trace]] = []

    def tensor(self, tensor: c_void_p) -> None:
        self._take(self._calls.moor_py_note_tensor, tensor)

    def unversioned(self, tensor: c_void_p) -> None:
        self._take(self._calls.moor_py_note_unversioned, tensor)

    def buffer(self, struct: Any) -> None:
        self._take(self._calls.moor_py_note_buffer, byref(struct))

    def _take(self, function: Callable[..., int | None], handed_out: Any) -> None:
        trace, record = Trace(), c_uint32()
        note = function(handed_out, byref(record))
        if not note:
            return
        with self._lock:
            self._held[note] = record.value, trace
            if len(self._held) >= self._look_at:
                self._forget_ended()
                self._look_at = max(2 * len(self._held), _LOOK_FROM)

    def _forget_ended(self) -> None:
        for note in [note for note in self._held if not self._calls.moor_py_note_viewed(note)]:
            del self._held[note]
            self._calls.moor_py_note_drop(note)

    def snapshot(self, snapshot: DebugSnapshot) -> None:
        with self._lock:
            self._snapshots = [one for one in self._snapshots if one[0]() is not None]
            self._snapshots.append((weakref.ref(snapshot), Trace()))

    def of_snapshots(self, key: str, seq: int) -> Iterator[str]:
        """Of the snapshots that hold this generation of a key."""
        for reference, trace in list(self._snapshots):
            snapshot = reference()
            if snapshot is not None and key in snapshot and snapshot.seq(key) == seq:
                yield f"a snapshot, {trace}"

    def by_record(self) -> dict[int, list[str]]:
        """Traces of what is held now."""
        found: dict[int, list[str]] = {}
        with self._lock:
            self._forget_ended()
            held = list(self._held.values())
        for record, trace in held:
            found.setdefault(record, []).append(str(trace))
        return found

    def __del__(self) -> None:
        try:
            for note in self._held:
                self._calls.moor_py_note_drop(note)
        except Exception:  # noqa: S110, SIM105 - the interpreter may be half gone, contextlib too
            pass


class _Capsules(Capsules):
    """Everything that is handed out as a tensor or an array goes through a capsule."""

    def __init__(self, library: Library, notes: Notes) -> None:
        super().__init__(library)
        self._notes = notes

    def versioned(self, tensor: c_void_p) -> Any:
        self._notes.tensor(tensor)
        return super().versioned(tensor)

    def unversioned(self, tensor: c_void_p) -> Any:
        self._notes.unversioned(tensor)
        return super().unversioned(tensor)


class DebugCalls(PlainCalls):
    def __init__(self, library: Library, store: int) -> None:
        super().__init__(library, store)
        self._notes = Notes(library)

    @property
    def capsules(self) -> Capsules:
        if self._made is None:
            self._made = _Capsules(self._library, self._notes)
        return self._made

    def route(self, route: Any, look: SecondLook) -> Any:
        return DebugRoute(route, self, look)

    def note(self, tensor: c_void_p) -> None:
        self._notes.tensor(tensor)

    def note_buffer(self, struct: Any) -> None:
        self._notes.buffer(struct)

    def traces(self, listed: list[tuple[str, int, int]]) -> list[list[str]]:
        notes, by_record = self._notes, self._notes.by_record()
        return [[*by_record.get(record, ()), *notes.of_snapshots(key, seq)] for key, record, seq in listed]

    def snapshot(self, route: str, handle: int, mode: int) -> Snapshot:
        return DebugSnapshot(self._library, handle, mode, self._notes)


class DebugSnapshot(Snapshot):
    """A snapshot that says where it was taken, and where the views that it hands out were."""

    __slots__ = ("_notes",)

    def __init__(self, library: Library, handle: int, mode: int, notes: Notes) -> None:
        self._notes = notes
        super().__init__(library, "ctypes", handle, mode)
        notes.snapshot(self)

    def seq(self, key: str) -> int:
        """Which generation of the key it holds; 0 when it has been closed meanwhile."""
        try:
            with self.get_buffer(key) as found:
                return found.seq
        except MoorageError:
            return 0

    def _note(self, struct: Any) -> None:
        self._notes.buffer(struct)

    def _capsules(self) -> Capsules:
        return _Capsules(self._library, self._notes)


class DebugRoute:
    """The getters of a store in debug mode; what does not hand out views is as in the route below."""

    def __init__(self, route: Any, calls: DebugCalls, look: SecondLook) -> None:
        self._route = route
        self._calls = calls
        self._look = look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    def buffer(self, key: Any, mode: Any) -> Any:
        return self._look.buffer(key, mode, None)

    def numpy(self, module: Any) -> Any:
        return PlainRoute(self._calls, self._look).numpy(module)

    def torch(self, module: Any) -> tuple[Any, Any, Any, Any]:
        look, calls = self._look, self._calls

        def tensor(key: Any, mode: Any) -> Any:
            return look.tensor(key, mode, None)

        def tensors(keys: Any, mode: Any) -> Any:
            return calls.tensors(keys, look.number(mode))

        return (tensor, tensors, *self._route.torch(module)[2:])
