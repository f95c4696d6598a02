"""GPUs through dcgm-exporter's page: both generations of names and labels, one set of units."""

from __future__ import annotations

import http.server
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from engines.gpu import NoGpu, is_throttled, open_gpu_source, throttle_words
from engines.gpu.dcgm import MIB, DcgmSource
from engines.gpu.errors import GpuUnavailable
from engines.launch.ports import free_port

TOTAL_MIB = 81559


class Exporter:
    """An exporter whose page a test sets; None makes it answer 500."""

    def __init__(self, url: str, handler: type[PageHandler]) -> None:
        self.url = url
        self._handler = handler

    def show(self, page: str | None) -> None:
        self._handler.page = page


class PageHandler(http.server.BaseHTTPRequestHandler):
    page: ClassVar[str | None] = ""

    def do_GET(self) -> None:
        body = (self.page or "").encode()
        self.send_response(500 if self.page is None else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    handler = type("Handler", (PageHandler,), {"page": ""})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Exporter(f"http://127.0.0.1:{server.server_address[1]}", handler)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def old_names(data: Path) -> str:
    return (data / "gpu/dcgm_old_names.prom").read_text()


@pytest.fixture
def new_names(data: Path) -> str:
    return (data / "gpu/dcgm_new_names.prom").read_text()


def test_old_names_are_read_in_the_units_of_the_sample(exporter: Exporter, old_names: str) -> None:
    exporter.show(old_names)

    sample, other = DcgmSource(exporter.url).sample()

    assert (sample.util_pct, sample.temp_c, sample.sm_clock_mhz) == (1, 61, 1980)
    assert (sample.power_w, sample.mem_used_bytes) == (652.301, 73000 * MIB)
    assert sample.pcie_tx_bytes_s == 1048576
    assert sample.energy_j == pytest.approx(12345.678)
    assert sample.tensor_active_pct == pytest.approx(41.2345)
    assert sample.dram_active_pct == pytest.approx(66.7)
    assert (other.util_pct, other.sm_clock_mhz) == (100, 1755)


def test_new_names_and_spellings_mean_the_same(exporter: Exporter, new_names: str) -> None:
    exporter.show(new_names)

    source = DcgmSource(exporter.url)
    (sample,) = source.sample()

    assert (sample.power_w, sample.temp_c, sample.util_pct) == (652.301, 61, 93)
    assert sample.sm_active_pct == 90
    assert sample.tensor_active_pct == pytest.approx(41.2345)
    assert (source.gpus[0].name, source.gpus[0].host) == ("NVIDIA H100 80GB HBM3", "node1")
    assert source.gpus[0].memory_bytes == TOTAL_MIB * MIB


def test_gpus_are_in_the_order_of_their_numbers_and_links_are_no_gpus(exporter: Exporter, old_names: str) -> None:
    exporter.show(old_names)

    source = DcgmSource(exporter.url)

    assert [gpu.uuid for gpu in source.gpus] == ["GPU-a", "GPU-b"]
    assert source.gpus[0].memory_bytes == TOTAL_MIB * MIB
    assert source.gpus[1].notes == ("no tensor and DRAM activity: the exporter's list has no PROF fields",)


def test_a_number_of_a_gpu_that_cannot_be_is_none(exporter: Exporter, old_names: str) -> None:
    exporter.show(old_names.replace('gpu="1"', f'gpu="{"9" * 5000}"'))

    assert {gpu.uuid for gpu in DcgmSource(exporter.url).gpus} == {"GPU-a", "GPU-b"}


def test_a_value_that_stands_for_nothing_is_dropped(exporter: Exporter, old_names: str) -> None:
    exporter.show(old_names)

    _, second = DcgmSource(exporter.url).sample()

    assert math.isnan(second.pcie_tx_bytes_s)
    assert math.isnan(second.power_w)


def test_a_ratio_above_one_shows_that_it_is_percent_and_stays_so(exporter: Exporter, new_names: str) -> None:
    exporter.show(new_names.replace("0.93", "57"))
    source = DcgmSource(exporter.url)

    (busy,) = source.sample()
    exporter.show(new_names.replace("0.93", "1"))
    (idle,) = source.sample()

    assert (busy.util_pct, idle.util_pct) == (57, 1)


def test_instances_of_a_divided_gpu_are_gpus_of_their_own(exporter: Exporter) -> None:
    labels = 'gpu="0",UUID="GPU-a",modelName="H100",GPU_I_PROFILE="{profile}",GPU_I_ID="{number}",Hostname="n"'
    rows = [
        f"DCGM_FI_DEV_FB_USED{{{labels.format(profile='1g.10gb', number=number)}}} {number * 100}" for number in (7, 8)
    ]
    exporter.show("\n".join(rows) + "\n")

    source = DcgmSource(exporter.url)

    assert [gpu.name for gpu in source.gpus] == ["H100 MIG 1g.10gb"] * 2
    assert [sample.mem_used_bytes for sample in source.sample()] == [700 * MIB, 800 * MIB]


def test_the_age_grows_until_the_values_change(exporter: Exporter, old_names: str) -> None:
    now_s = 0.0
    exporter.show(old_names)
    source = DcgmSource(exporter.url, clock=lambda: now_s)

    now_s = 20.0
    source.sample()
    unchanged_s = source.age_s
    exporter.show(old_names.replace("652.301", "300.5"))
    source.sample()

    assert (unchanged_s, source.age_s) == (20, 0)


def test_a_gpu_that_is_gone_and_an_exporter_that_fails_give_no_values(exporter: Exporter, old_names: str) -> None:
    exporter.show(old_names)
    source = DcgmSource(exporter.url)

    exporter.show("\n".join(line for line in old_names.splitlines() if "GPU-a" not in line) + "\n")
    gone, there = source.sample()
    exporter.show(None)
    failed = source.sample()

    assert math.isnan(gone.util_pct)
    assert there.util_pct == 100
    assert all(math.isnan(sample.util_pct) for sample in failed)


@pytest.mark.parametrize(
    ("page", "words"),
    [("", "names no GPU"), ("<html>", "not Prometheus text"), (None, "answers 500"), ("up 1\n", "names no GPU")],
)
def test_a_page_without_gpus_is_explained(exporter: Exporter, page: str | None, words: str) -> None:
    exporter.show(page)

    with pytest.raises(GpuUnavailable, match=words):
        DcgmSource(exporter.url)


def test_no_source_is_a_reason_in_words_not_an_error(exporter: Exporter) -> None:
    unreachable = open_gpu_source(f"http://127.0.0.1:{free_port()}", local=False)
    nonsense = open_gpu_source("file:///etc/passwd", local=False)
    remote = open_gpu_source(None, local=False)

    assert isinstance(unreachable, NoGpu)
    assert "cannot be reached" in unreachable.reason
    assert isinstance(nonsense, NoGpu)
    assert "is not valid" in nonsense.reason
    assert isinstance(remote, NoGpu)
    assert "another host" in remote.reason


def test_an_exporter_that_is_named_is_used(exporter: Exporter, old_names: str) -> None:
    exporter.show(old_names)

    source = open_gpu_source(exporter.url, local=True)

    assert isinstance(source, DcgmSource)


@pytest.mark.parametrize(
    ("mask", "words", "throttled"),
    [
        (0, "", False),
        (1, "idle", False),
        (4, "power cap", True),
        (0x44, "power cap, hardware thermal limit", True),
        (0x2000, "reason 0x2000", True),
        (math.nan, "", False),
    ],
)
def test_clock_event_bits_in_words(mask: float, words: str, throttled: bool) -> None:
    assert throttle_words(mask) == words
    assert is_throttled(mask) is throttled


TRITON_PAGE = """\
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.75
nv_gpu_memory_total_bytes{gpu_uuid="GPU-a"} 85520809984
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 42949672960
nv_gpu_power_usage{gpu_uuid="GPU-a"} 310.5
nv_gpu_power_limit{gpu_uuid="GPU-a"} 700
# TYPE nv_energy_consumption counter
nv_energy_consumption{gpu_uuid="GPU-a"} 1234.5
nv_inference_count{model="m",version="1"} 5
"""


def test_tritons_own_gpu_figures_are_read_in_the_same_units(exporter: Exporter) -> None:
    exporter.show(TRITON_PAGE)

    source = DcgmSource(exporter.url)
    (sample,) = source.sample()

    assert (source.gpus[0].uuid, source.gpus[0].source, source.gpus[0].memory_bytes) == ("GPU-a", "triton", 85520809984)
    assert source.gpus[0].notes == ("no tensor and DRAM activity: Triton does not tell it",)
    assert (sample.util_pct, sample.mem_used_bytes, sample.power_w, sample.power_limit_w) == (
        75,
        40 * 2**30,
        310.5,
        700,
    )
    assert sample.energy_j == 1234.5


def test_with_mig_the_share_of_busy_time_stands_for_utilisation(exporter: Exporter) -> None:
    labels = 'gpu="0",UUID="GPU-a",GPU_I_ID="7",GPU_I_PROFILE="1g.18gb"'
    exporter.show(f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} 0.5\nDCGM_FI_DEV_FB_USED{{{labels}}} 100\n")

    source = DcgmSource(exporter.url)
    (sample,) = source.sample()

    assert (source.gpus[0].name, sample.util_pct) == ("GPU MIG 1g.18gb", 50)


def test_a_gpu_that_leaves_the_page_is_told(exporter: Exporter) -> None:
    both = 'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a"} 5\nDCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b"} 6\n'
    exporter.show(both)
    source = DcgmSource(exporter.url)
    before = source.problems()
    exporter.show(both.splitlines()[0] + "\n")

    first, second = source.sample()

    assert before == ()
    assert (first.util_pct, math.isnan(second.util_pct)) == (5, True)
    assert [problem.partition(" is no longer")[0] for problem in source.problems()] == ["GPU 1 (GPU)"]


def test_a_page_that_does_not_come_or_stands_still_is_told(exporter: Exporter) -> None:
    now_s = [0.0]
    exporter.show('DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a"} 5\n')
    source = DcgmSource(exporter.url, clock=lambda: now_s[0])

    now_s[0] = 91.0
    source.sample()
    standing = source.problems()
    exporter.show(None)
    source.sample()
    silent = source.problems()
    exporter.show('DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a"} 6\n')
    source.sample()

    assert "the same values" in standing[0]
    assert "answers 500" in silent[0]
    assert source.problems() == ()


def test_a_servers_own_page_may_be_away_between_two_starts(exporter: Exporter) -> None:
    exporter.show('DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a"} 5\n')
    source = DcgmSource(exporter.url, of_server=True)

    exporter.show(None)
    (sample,) = source.sample()

    assert math.isnan(sample.util_pct)
    assert source.problems() == ()
