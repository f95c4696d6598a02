"""The shape of the code: who may import whom, and what must stay cheap to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.sample_session import write_sample_session

HEADLESS = ("sessions.recorder", "sessions.reader", "engines.registry", "tuner.plan", "tuner.worker", "trtune.follow")
SCREEN_START = ("tui.app",)
HOT_PATH = ("tuner.load.hotpath.__main__",)


def modules_after(import_: str) -> set[str]:
    """Names of all modules that are loaded once one has been imported, in a process of its own."""
    code = f"import sys, {import_}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_dependencies_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([program], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("module", HEADLESS)
def test_the_work_runs_without_the_screen(module: str) -> None:
    loaded = modules_after(module)

    assert not {name for name in loaded if name.split(".")[0] in ("textual", "rich", "tui")}


@pytest.mark.parametrize("module", SCREEN_START)
def test_the_screen_starts_without_heavy_libraries(module: str) -> None:
    loaded = modules_after(module)

    assert not {name.split(".")[0] for name in loaded} & {"numpy", "pandas", "optuna", "aiohttp", "engines", "tuner"}


def test_replaying_loads_nothing_heavy_before_the_screen(tmp_path: Path) -> None:
    session = write_sample_session(tmp_path / "sample.trtune")
    code = (
        "import sys, tui.app, tui.terminal\n"
        "tui.terminal.terminal_problem = lambda: None\n"
        "tui.app.run_app = lambda *_, **__: sys.exit(print('\\n'.join(sys.modules)))\n"
        f"from trtune.cli import run; run(['replay', {str(session)!r}])"
    )

    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert "tui.front_door" in loaded
    assert not {name.split(".")[0] for name in loaded} & {"numpy", "pandas", "optuna", "aiohttp", "pydantic"}


@pytest.mark.parametrize("module", HOT_PATH)
def test_the_process_that_times_tokens_loads_nothing_else(module: str) -> None:
    loaded = modules_after(module)

    heavy = {"numpy", "pandas", "optuna", "aiohttp", "pydantic", "orjson", "json", "asyncio", "textual"}
    assert not {name.split(".")[0] for name in loaded} & heavy
