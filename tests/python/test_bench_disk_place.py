"""`moorage bench disk`: what a directory lies on, and by which name."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("numpy")

from moorage.bench.disk.place import MEMORY, Counters, System  # noqa: E402


def _system(folder: Path, mounts: str, devices: dict[str, str]) -> System:
    """devices: number -> path below /sys/devices; a path with two names is a partition's."""
    for number, path in devices.items():
        real = folder / "sys/devices" / path
        real.mkdir(parents=True, exist_ok=True)
        block = real
        if "/" in path:
            (real / "partition").write_text("1\n")
            block = real.parent
        for link, to in (
            (f"dev/block/{number}", real), (f"block/{block.name}", block), (f"class/block/{real.name}", real)
        ):  # fmt: skip
            where = folder / "sys" / link
            where.parent.mkdir(parents=True, exist_ok=True)
            if not where.exists():
                where.symlink_to(to)
    (folder / "mounts").write_text(mounts)
    return System(str(folder / "sys"), str(folder / "mounts"))


def _below(folder: Path, device: str, *parts: str) -> None:
    slaves = folder / "sys/devices" / device / "slaves"
    slaves.mkdir(parents=True)
    for part in parts:
        (slaves / part).symlink_to(folder / "sys/class/block" / part)


def test_a_partition_of_an_nvme_device(tmp_path: Path) -> None:
    system = _system(tmp_path, f"1 0 259:1 / {tmp_path} rw,noatime - xfs /dev/nvme0n1p1 rw\n", {"259:1": "nvme0n1/p1"})
    model = tmp_path / "sys/devices/nvme0n1/device"
    model.mkdir()
    (model / "model").write_text("Fast One   \n")
    place = system.place(str(tmp_path))
    assert (place.filesystem, place.device, place.options) == ("xfs", "nvme0n1", "rw,noatime")
    assert place.title == "NVMe nvme0n1 (Fast One)"


def test_a_device_that_is_no_nvme_has_its_own_name(tmp_path: Path) -> None:
    system = _system(tmp_path, f"1 0 254:0 / {tmp_path} rw - ext4 /dev/vda rw\n", {"254:0": "vda"})
    assert system.place(str(tmp_path)).title == "vda"


def test_what_is_made_of_others_names_them(tmp_path: Path) -> None:
    devices = {"253:0": "dm-0", "259:0": "nvme0n1", "259:1": "nvme1n1", "8:1": "sda/sda1"}
    system = _system(tmp_path, f"1 0 253:0 / {tmp_path} rw - ext4 /dev/mapper/x rw\n", devices)
    _below(tmp_path, "dm-0", "nvme0n1", "nvme1n1")
    assert system.place(str(tmp_path)).title == "NVMe dm-0 on nvme0n1, nvme1n1"
    (tmp_path / "sys/devices/dm-0/slaves/sda1").symlink_to(tmp_path / "sys/class/block/sda1")
    assert system.place(str(tmp_path)).title == "dm-0 on nvme0n1, nvme1n1, sda", "one of them is no nvme"


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_memory_is_called_memory(tmp_path: Path, kind: str) -> None:
    place = _system(tmp_path, f"1 0 0:30 / {tmp_path} rw - {kind} none rw\n", {}).place(str(tmp_path))
    assert place.memory and place.title == MEMORY


def test_a_ram_disk_is_memory(tmp_path: Path) -> None:
    system = _system(tmp_path, f"1 0 1:0 / {tmp_path} rw - ext4 /dev/ram0 rw\n", {"1:0": "ram0"})
    assert system.place(str(tmp_path)).title == MEMORY


def test_an_overlay_is_what_its_upper_directory_is(tmp_path: Path) -> None:
    def title(below: str) -> str:
        mounts = (
            f"1 0 0:40 / /over rw - {below}\n"
            f"2 0 0:41 / {tmp_path} rw - overlay overlay rw,lowerdir=/a,upperdir=/over/up,workdir=/over/work\n"
        )
        return _system(tmp_path, mounts, {}).place(str(tmp_path)).title

    assert title("tmpfs none rw") == MEMORY
    assert title("ext4 /dev/vda rw") == "overlay, no block device"


def test_the_deepest_and_last_mount_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    named = str(inner).replace(" ", "\\040")
    system = _system(
        tmp_path,
        f"1 0 254:0 / / rw - ext4 /dev/vda rw\n2 0 0:9 / {named} rw - ext4 /dev/vda rw\n"
        f"3 0 0:8 / {named} rw - tmpfs x rw\n4 0 0:7 / {named}x rw - ramfs x rw\n",
        {"254:0": "vda"},
    )
    assert system.place(str(inner)).filesystem == "tmpfs"
    assert system.place(str(tmp_path)).title == "vda"
    with pytest.raises(FileNotFoundError):
        system.place(str(tmp_path / "none"))


def test_counters_of_a_device(tmp_path: Path) -> None:
    system = _system(tmp_path, "", {"254:0": "vda"})
    assert system.counters("vda") is None and system.counters("") is None
    path = tmp_path / "sys/devices/vda/stat"
    path.write_text("  10 1 100 5 20 2 8 7 0 50 60 0 0 0 0 0 0\n")
    before = system.counters("vda")
    path.write_text("  14 1 180 9 20 2 10 7 0 50 80 0 0 0 0 0 0\n")
    after = system.counters("vda")
    assert before is not None and after is not None
    assert after.since(before) == Counters(reads=4, nbytes=80 * 512, read_ms=4, written=1024, queue_ms=20)
