"""Network devices at the edge: what there is, attaching, what is counted. The device is the stand-in for libibverbs; a
real one is in the virtual machine of tests/rdma.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from programs import run
from test_register import NO_MESSAGES

import moorage

_PREPARE = """
import ctypes, logging, os, time
import moorage
def library():
    fake = ctypes.CDLL(os.environ["MOORAGE_LIBIBVERBS"])
    fake.fake_get.restype = ctypes.c_long
    fake.fake_set.argtypes = [ctypes.c_char_p, ctypes.c_long]
    return fake
def count(what):
    return library().fake_get(what.encode())
def set(what, value):
    assert library().fake_set(what.encode(), value) == 1
def eventually(true):
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)
def nothing_is_left():
    for what in ("live_contexts", "live_pds", "live_mrs"):
        eventually(lambda: count(what) == 0)
    assert count("write_grants") == 0
def fails(kind, words, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        assert words in str(error), str(error)
        return error
    raise AssertionError("no exception")
"""


def program(verbs: Path, code: str, faults: str = "") -> None:
    import textwrap

    environment = {"MOORAGE_LIBIBVERBS": str(verbs / "libibverbs.so.1"), "FAKE_VERBS": faults}
    run(_PREPARE + textwrap.dedent(code), env=environment).cleanly()


def test_what_there_is(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        """
        found = moorage.network()
        assert isinstance(found, moorage.Network) and (found.missing, found.text) == ("nothing", "")
        assert found.devices == tuple(
            moorage.Device(f"fake{i}", True, 1, "ethernet", -1, "") for i in range(2)
        ), found
        set("link_layer", 1)
        assert [device.link for device in moorage.network().devices] == ["infiniband"] * 2
        nothing_is_left()
        """,
    )


@pytest.mark.parametrize(
    ("faults", "missing", "text", "devices"),
    [
        ("devices=0", "device", "there is no RDMA device", "[]"),
        (f"list_errno={errno.ENOSYS}", "kernel", "ib_uverbs", "[]"),
        (f"open_errno={errno.EACCES}", "permission", "permission denied", "[(False, 'unknown', 0)] * 2"),
        ("port_state=1", "active_port", "no port of any RDMA device is active", "[(False, 'ethernet', 1)] * 2"),
    ],
)
def test_what_is_missing(fake_verbs: Path, faults: str, missing: str, text: str, devices: str) -> None:
    program(
        fake_verbs,
        f"""
        found = moorage.network()
        assert found.missing == {missing!r} and {text!r} in found.text, found
        assert [(one.active, one.link, one.port) for one in found.devices] == {devices}, found
        assert all(bool(one.refusal) == ({missing!r} == "permission") for one in found.devices), found
        with moorage.Store("1MiB") as store:
            error = fails(moorage.NoDeviceError, "no RDMA here", store.attach_device)
            assert isinstance(error, OSError) and error.status == -20
            assert store.stats().devices == 0
            store.register(bytearray(8)).release()
        nothing_is_left()
        """,
        faults,
    )


def test_no_library(tmp_path: Path) -> None:
    program(
        tmp_path,
        """
        found = moorage.network()
        assert (found.missing, found.devices) == ("library", ()) and "libibverbs1" in found.text, found
        with moorage.Store("1MiB") as store:
            fails(moorage.NoDeviceError, "libibverbs1", store.attach_device, "mlx5_0")
        """,
    )


def test_devices_that_cannot_be_listed(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        'fails(moorage.SystemFailureError, "ibv_get_device_list", moorage.network)',
        f"list_errno={errno.EMFILE}",
    )


def test_attached(fake_verbs: Path) -> None:
    """What is registered is registered with the device: the caller's at once, the store's slabs by themselves."""
    program(
        fake_verbs,
        """
        store = moorage.Store("200MiB", prefault="background")
        early = store.register(bytearray(4096))
        assert store.attach_device() == "fake0"
        assert store.attach_device("fake1") == "fake1"
        eventually(lambda: [one.nbytes for one in store.stats().attached] == [200 << 20] * 2)
        stats = store.stats()
        assert stats.devices == 2 and stats.slab_bytes == 200 << 20, stats
        for one, name in zip(stats.attached, ("fake0", "fake1")):
            assert isinstance(one, moorage.DeviceStats)
            assert (one.name, one.regions, one.registrations) == (name, 4, 4) and one.register_ns > 0, one
        with store.register(bytearray(100_000)):
            assert [(one.regions, one.nbytes) for one in store.stats().attached] == [(5, (200 << 20) + 100_000)] * 2
            assert store.stats().device_registrations == 10 and count("live_mrs") == 10
        assert [one.regions for one in store.stats().attached] == [4, 4]
        assert 'moorage_device_registered_bytes{store="s",device="fake1"}' in store.stats().prometheus("s")
        early.release()

        fails(moorage.ExistsError, "fake0", store.attach_device, "fake0")
        fails(moorage.ExistsError, "fake0", store.attach_device)
        store.detach_device("fake0")
        assert [one.name for one in store.stats().attached] == ["fake1"] and count("live_contexts") == 1
        fails(moorage.NoDeviceError, "name: the store has no device fake0", store.detach_device, "fake0")
        assert store.attach_device() == "fake0"
        logging.disable()  # of the view
        view = store.put("k", b"v") and store.get_buffer("k")
        store.close()
        fails(moorage.ClosedError, "closed", store.attach_device)
        assert count("live_contexts") == 2, "memory that is viewed stays with its devices"
        view.release()
        nothing_is_left()
        """,
    )


def test_puts_and_gets_register_nothing(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        """
        store = moorage.Store("64MiB")
        store.attach_device()
        for i in range(20):
            store.put(f"{i}", bytes(100_000))
            assert store.get(f"{i}") == bytes(100_000)
        stats = store.stats()
        assert (stats.device_registrations, stats.attached[0].registrations, count("registrations")) == (0, 0, 0)
        del store
        nothing_is_left()
        """,
    )


def test_registering_with_a_device_tells_nobody(fake_verbs: Path) -> None:
    prepare = NO_MESSAGES.replace("\nforbid()\n", "\nstore.attach_device()\nforbid()\n")
    assert prepare != NO_MESSAGES
    ended = run(
        prepare
        + """
with store.register(memory), store.register(memory, 4096):
    assert [one.regions for one in store.stats().attached] == [2]
store.put("k", bytes(1 << 20))
store.trim()
store.close(wait=True)
""",
        env={"MOORAGE_LIBIBVERBS": str(fake_verbs / "libibverbs.so.1")},
    )
    if ended.status == 77:
        pytest.skip("probed seccomp: this process may not install a filter")
    ended.cleanly()


@pytest.mark.parametrize(
    ("faults", "error", "text"),
    [
        ("", "NoDeviceError", "there is no device \\\"mlx5_3\\\"; there is: fake0, fake1"),
        ("devices=0", "NoDeviceError", "there is: none"),
        (f"pd_errno={errno.ENOMEM}", "NoMemoryError", "ibv_alloc_pd"),
        (f"pd_errno={errno.EIO}", "SystemFailureError", "ibv_alloc_pd"),
        (f"open_errno={errno.EACCES}", "NoDeviceError", "/dev/infiniband"),
        ("port_state=1", "NoDeviceError", "active"),
        ("max_reads=0", "NoDeviceError", "one-sided reads"),
    ],
)
def test_a_device_that_cannot_be_attached(fake_verbs: Path, faults: str, error: str, text: str) -> None:
    name = "fake0" if faults and faults != "devices=0" else "mlx5_3"
    program(
        fake_verbs,
        f"""
        store = moorage.Store("1MiB")
        fails(moorage.{error}, "{text}", store.attach_device, {name!r})
        assert store.stats().attached == ()
        nothing_is_left()
        """,
        faults,
    )


def test_a_device_that_refuses_memory(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        f"""
        store = moorage.Store("1MiB")
        store.attach_device("fake0")
        store.attach_device("fake1")
        set("reg_errno", {errno.ENOMEM})
        error = fails(moorage.NoMemoryError, "fake", store.register, bytearray(5000))
        assert "limit" in str(error) and "5000" in str(error), error
        set("reg_errno", {errno.EIO})
        fails(moorage.SystemFailureError, "fake", store.register, bytearray(5000))
        set("reg_errno", 0)
        stats = store.stats()
        assert (stats.registrations, [one.regions for one in stats.attached]) == (0, [0, 0])
        store.close(wait=True)
        nothing_is_left()
        """,
    )


def test_a_device_that_does_not_let_go(fake_verbs: Path) -> None:
    """It says so, once; nothing hangs, and the store goes on."""
    program(
        fake_verbs,
        f"""
        store = moorage.Store("1MiB")
        store.attach_device("fake0")
        memory = bytearray(5000)
        registration = store.register(memory)
        set("dereg_errno", {errno.EIO})
        fails(moorage.SystemFailureError, "ibv_dereg_mr", registration.release)
        assert registration.released and store.stats().registrations == 0
        fails(moorage.MoorageError, "fake0", store.register, memory)
        fails(moorage.SystemFailureError, "fake0", store.detach_device, "fake0")
        assert store.stats().attached == ()
        set("dereg_errno", 0)
        store.attach_device("fake0")
        store.register(memory).release()
        store.put("k", b"v")
        store.close(wait=True)
        """,
    )


def test_what_registering_costs(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        """
        from moorage import devices
        text = devices.explain()
        assert text.startswith("fake0: registering and deregistering costs"), text
        assert 'register="auto": other memory is copied' in text, text
        assert 'register="never": other memory is copied, whatever its size' in devices.explain("fake1", "never")
        assert count("registrations") < 100
        made = count("registrations")
        devices.explain("fake1")
        assert count("registrations") == made, "it is measured once"
        fails(moorage.NoDeviceError, "there is no device", devices.explain, "mlx5_3")
        fails(moorage.InvalidArgumentError, "register must be one of", devices.explain, None, "some")
        nothing_is_left()
        """,
    )
    program(
        fake_verbs,
        """
        from moorage import devices
        fails(moorage.NoMemoryError, "limit", devices.explain)
        nothing_is_left()
        """,
        f"reg_errno={errno.ENOMEM}",
    )


def test_in_a_forked_child(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        """
        store = moorage.Store("1MiB")
        store.attach_device()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for call in (moorage.network, store.attach_device, lambda: store.detach_device("fake0")):
                    fails(moorage.ForkedError, "fork", call)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.close(wait=True)
        nothing_is_left()
        """,
    )


def test_many_threads_attach_and_detach(fake_verbs: Path) -> None:
    program(
        fake_verbs,
        """
        import threading
        store = moorage.Store("1MiB")
        memory = bytearray(1 << 16)
        def work(i):
            for _ in range(50):
                try:
                    store.attach_device(f"fake{i % 2}")
                except moorage.ExistsError:
                    pass
                with store.register(memory):
                    store.stats()
                try:
                    store.detach_device(f"fake{i % 2}")
                except moorage.NoDeviceError:
                    pass
        running = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for one in running: one.start()
        for one in running: one.join()
        assert store.stats().attached == () and store.stats().registrations == 0
        nothing_is_left()
        """,
    )


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("", moorage.InvalidArgumentError, "name has no bytes"),
        ("x" * 64, moorage.InvalidArgumentError, "name has too many bytes"),
        (5, TypeError, "name must be a str"),
        (b"fake0", TypeError, "name must be a str"),
    ],
)
def test_names_that_are_none(store: moorage.Store, name: object, error: type[Exception], text: str) -> None:
    for call in (store.attach_device, store.detach_device):
        with pytest.raises(error, match=text):
            call(name)  # type: ignore[operator]
    with pytest.raises(TypeError, match="name must be a str"):
        store.detach_device(None)  # type: ignore[arg-type]
    with pytest.raises(moorage.NoDeviceError, match="the store has no device a.b"):
        store.detach_device("a\0b")


def test_the_policy_is_kept_and_shown() -> None:
    for register in ("auto", "never", "always", "require"):
        with moorage.Store("1MiB", register=register) as store:  # type: ignore[arg-type]
            assert store.stats().register == register
    for bad in ("maybe", 1, None):
        with pytest.raises(moorage.InvalidArgumentError, match="register must be one of 'auto', 'never'"):
            moorage.Store("1MiB", register=bad)  # type: ignore[arg-type]


def test_who_does_not_ask_pays_nothing(fake_verbs: Path) -> None:
    """Neither import, nor opening, nor registering looks for libibverbs."""
    run(
        """
        import moorage
        def loaded():
            return "ibverbs" in open("/proc/self/maps").read()
        with moorage.Store("1MiB", prefault="open") as store:
            store.put("k", bytes(100_000))
            store.register(bytearray(8)).release()
            store.stats(), store.trim(), store.is_registered(bytearray(8))
            assert not loaded()
            moorage.network()
            assert loaded()
        """,
        env={"MOORAGE_LIBIBVERBS": str(fake_verbs / "libibverbs.so.1")},
    ).cleanly()
