"""The simulated engine's own flags."""

from __future__ import annotations

import pytest

from engines.simulated.faults import FaultError, Faults, parse_faults
from engines.simulated.options import split_options


def test_faults_are_read_with_and_without_arguments() -> None:
    faults = parse_faults(["crash-at=30s", "stream-cut", "slow-metrics=0.5", "never-ready"])

    assert faults == Faults(crash_at_s=30.0, stream_cut_tokens=8, slow_metrics_s=0.5, never_ready=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("explode", "unknown fault 'explode'.*known are"),
        ("crash-at", "needs an argument"),
        ("crash-at=soon", "'soon' is not a number"),
        ("crash-at=-1", "zero or more"),
        ("hang=nan", "zero or more"),
        ("never-ready=1", "takes no argument"),
    ],
)
def test_a_bad_fault_is_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(FaultError, match=words):
        parse_faults([text])


def test_simulation_flags_are_taken_out_of_the_servers_command_line() -> None:
    options, rest = split_options(
        ["serve", "m", "--sim-gpu", "h200", "--port", "1", "--sim-gpus=4", "--sim-seed", "9"], ("trtllm",)
    )

    assert rest == ["serve", "m", "--port", "1"]
    assert (options.gpu.name, options.gpu_count, options.seed, options.dialect) == ("h200", 4, 9, "trtllm")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sim-gpu", "voodoo"],
        ["--sim-gpus", "0"],
        ["--sim-speed", "0"],
        ["--sim-fault", "explode"],
        ["--sim-sped", "2"],
        ["--sim-dialect", "esperanto"],
    ],
)
def test_a_bad_simulation_flag_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        split_options(["serve", "m", *arguments], ("trtllm",))

    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
