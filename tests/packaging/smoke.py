"""A few calls of an installed package, with the standard library and, where it is there, numpy."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading

import moorage


def check_bytes(store: moorage.Store) -> None:
    payload = bytes(range(256)) * 300
    assert store.put("bytes", payload, meta=b"about") is True
    assert store.put("bytes", b"other", if_exists="keep") is False
    assert store.get("bytes") == payload
    assert store.get("missing") is None
    assert "bytes" in store and len(store) == 1 and store.keys() == ["bytes"]
    target = bytearray(10)
    assert store.get_into("bytes", target, offset=3, nbytes=10) == 10 and target == payload[3:13]
    try:
        store.get_buffer("missing")
    except KeyError as error:
        assert isinstance(error, moorage.MoorageError)
    else:
        raise AssertionError("a missing key was found")


def check_view_outlives_its_name(store: moorage.Store) -> None:
    payload = b"held" * 20_000
    store.put("held", payload)
    view = memoryview(store.get_buffer("held"))
    assert view.readonly and view.nbytes == len(payload)
    store.remove("held")
    store.put("fresh", bytes(len(payload)))
    assert view == payload
    view.release()


def check_numpy(store: moorage.Store) -> None:
    import numpy as np

    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1]
    store.put_tensor("array", array)
    view = store.get_array("array")
    assert view.dtype == array.dtype and view.shape == array.shape and not view.flags.writeable
    assert np.array_equal(view, array)
    store.clear()
    store.close()
    gc.collect()
    assert np.array_equal(view, array)


def check_threads(store: moorage.Store) -> None:
    failures = []

    def work(number: int) -> None:
        try:
            for turn in range(50):
                store.put(f"thread-{number}", bytes([turn]) * 5000)
                assert store.get(f"thread-{number}") == bytes([turn]) * 5000
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def main() -> None:
    store = moorage.Store("64MiB")
    check_bytes(store)
    check_view_outlives_its_name(store)
    check_threads(store)
    has_numpy = importlib.util.find_spec("numpy") is not None
    if has_numpy:
        check_numpy(store)
    store.close()
    store.close()
    print(f"Python {sys.version.split()[0]}, {'numpy' if has_numpy else 'standard library only'}: works")


if __name__ == "__main__":
    main()
