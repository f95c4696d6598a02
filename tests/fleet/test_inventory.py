"""What a host tells about its GPUs: identity, place, and who uses them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tuner.fleet.inventory import HostGpu, host_gpus, parse_cpus, visible


class TwoGpus:
    """A test double of NVIDIA's module `pynvml` with the calls of an inventory."""

    def __init__(
        self, used_mib: tuple[int, int] = (600, 40_000), pids: tuple[tuple[int, ...], ...] = ((), (77,))
    ) -> None:
        self.used_mib, self.pids = used_mib, pids

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetPciInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(busId=f"00000000:{'3B' if handle == 0 else 'AF'}:00.0".encode())

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}aaa"

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=self.used_mib[handle] << 20)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.pids[handle]]


@pytest.fixture
def system(tmp_path: Path) -> tuple[Path, Path]:
    """The parts of /sys that an inventory reads: the second GPU's node is not told."""
    pci, nodes = tmp_path / "pci", tmp_path / "nodes"
    for bus, node in (("0000:3b:00.0", "1"), ("0000:af:00.0", "-1")):
        (pci / bus).mkdir(parents=True)
        (pci / bus / "numa_node").write_text(f"{node}\n")
    (nodes / "node1").mkdir(parents=True)
    (nodes / "node1" / "cpulist").write_text("8-11,24\n")
    return pci, nodes


def test_gpus_are_told_with_their_place_and_their_users(system: tuple[Path, Path]) -> None:
    first, second = host_gpus(TwoGpus(), *system)

    assert (first.uuid, first.name, first.numa_node, set(first.cpus)) == (
        "GPU-0aaa",
        "NVIDIA H200",
        1,
        {8, 9, 10, 11, 24},
    )
    assert (second.numa_node, second.cpus, second.pids) == (None, frozenset(), (77,))
    assert not first.busy
    assert second.busy


def test_a_gpu_whose_memory_is_taken_is_busy_even_when_its_users_are_hidden() -> None:
    assert HostGpu("GPU-a", used_bytes=20 << 30).busy
    assert not HostGpu("GPU-a", used_bytes=500 << 20).busy


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (None, ["GPU-aaaa1", "GPU-bbbb2"]),
        ("1", ["GPU-bbbb2"]),
        ("GPU-bbbb, 0", ["GPU-bbbb2", "GPU-aaaa1"]),
        ("", []),
        ("7", []),
    ],
)
def test_only_the_gpus_we_were_given_are_used(wish: str | None, expected: list[str]) -> None:
    gpus = (HostGpu("GPU-aaaa1", 0), HostGpu("GPU-bbbb2", 1))

    assert [gpu.uuid for gpu in visible(gpus, wish)] == expected


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), ("x,2-", {2}), ("\n", set())]
)
def test_the_kernels_lists_of_cpus_are_read(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus
