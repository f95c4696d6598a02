"""NIM's settings: variables of 1.x, and variables and flags of 2.x (contract nim.md sections 3.1 to 3.3)."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from engines.models import Checkpoint, Precision
from engines.simulated.model import CapacityPolicy, CudaGraphs, EngineConfig
from engines.simulated.start import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT: Final = 8000
_MODEL_VARIABLES: Final = ("NIM_MODEL_NAME", "NIM_MODEL_PATH")
_TRUE: Final = frozenset({"1", "true"})
_FALSE: Final = frozenset({"", "0", "false"})
_PROFILE: Final = re.compile(r"-(?P<precision>bf16|fp16|fp8|nvfp4)-tp(?P<tp>\d+)-pp(?P<pp>\d+)")
_PRECISIONS: Final = {"bf16": Precision.BF16, "fp16": Precision.BF16, "fp8": Precision.FP8, "nvfp4": Precision.NVFP4}

_FLAGS_OF_VARIABLES: Final = {
    "NIM_MAX_MODEL_LEN": "--max-model-len",
    "NIM_TENSOR_PARALLEL_SIZE": "--tensor-parallel-size",
    "NIM_PIPELINE_PARALLEL_SIZE": "--pipeline-parallel-size",
}
"""Variables of 2.x that become flags of the engine; all others of 1.x are silently useless there."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile's name says.

    Attributes:
        precision: of the weights, None when the name does not tell.
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: groups of GPUs with consecutive layers.
    """

    precision: Precision | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1


class Environment:
    """Reads NIM's variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def model(self, typed: str | None) -> str:
        """Return the model: the command line's, else the variable's, without its scheme.

        Raises:
            StartError: neither is there.
        """
        named = typed or next((self._variables[name] for name in _MODEL_VARIABLES if self._variables.get(name)), None)
        if named is None:
            raise StartError("ERROR: no compatible profile found: set NIM_MODEL_NAME (1.x) or NIM_MODEL_PATH (2.x)")
        return named.removeprefix("hf://").removeprefix("ngc://")

    def served_names(self, model: str) -> tuple[str, ...]:
        """Return the names of the model."""
        names = self._variables.get("NIM_SERVED_MODEL_NAME", "")
        return tuple(name.strip() for name in names.split(",") if name.strip()) or (model,)

    def port(self) -> int:
        """Return the port.

        Raises:
            StartError: it is no number.
        """
        for name in ("NIM_SERVER_PORT", "NIM_HTTP_API_PORT"):
            port = self.whole(name)
            if port is not None:
                return port
        return DEFAULT_PORT

    def whole(self, name: str) -> int | None:
        """Return a variable that is a whole number, None when it is not set.

        Raises:
            StartError: it is something else.
        """
        text = self._variables.get(name, "")
        if not text:
            return None
        if not text.isdigit():
            _refuse(name, text, "a whole number")
        return int(text)

    def switch(self, name: str) -> bool:
        """Return a variable that is 0 or 1; off when it is not set.

        Raises:
            StartError: it is something else.
        """
        text = self._variables.get(name, "").lower()
        if text not in _TRUE | _FALSE:
            _refuse(name, text, "0 or 1")
        return text in _TRUE

    def share(self, name: str, default: float) -> float:
        """Return a variable between 0 and 1.

        Raises:
            StartError: it is something else.
        """
        text = self._variables.get(name, "")
        try:
            value = float(text) if text else default
        except ValueError:
            _refuse(name, text, "a number from 0 to 1")
        if not 0.0 < value <= 1.0:
            _refuse(name, text, "a number from 0 to 1")
        return value

    def profile(self) -> Profile:
        """Return what the chosen profile's name says; ids say nothing."""
        match = _PROFILE.search(self._variables.get("NIM_MODEL_PROFILE", ""))
        if match is None:
            return Profile()
        return Profile(_PRECISIONS[match["precision"]], int(match["tp"]), int(match["pp"]))

    def passthrough(self, typed: list[str]) -> list[str]:
        """Return the engine's flags of 2.x, weakest first: profile, variables, passthrough, typed words.

        Raises:
            StartError: a variable is wrong.
        """
        profile = self.profile()
        words = [f"--tensor-parallel-size={profile.tensor_parallel_size}"]
        words.append(f"--pipeline-parallel-size={profile.pipeline_parallel_size}")
        for name, flag in _FLAGS_OF_VARIABLES.items():
            value = self.whole(name)
            words += [] if value is None else [f"{flag}={value}"]
        words += ["--enforce-eager"] if self.switch("NIM_DISABLE_CUDA_GRAPH") else []
        return [*words, *shlex.split(self._variables.get("NIM_PASSTHROUGH_ARGS", "")), *typed]

    def engine_config(self, checkpoint: Checkpoint) -> tuple[EngineConfig, Checkpoint]:
        """Return the settings of 1.x's TensorRT-LLM; prefix caching is off unless asked for.

        Raises:
            StartError: a variable is wrong.
        """
        profile = self.profile()
        if profile.precision is not None:
            checkpoint = replace(checkpoint, weight_precision=profile.precision)
        packs = self._choice("NIM_SCHEDULER_POLICY", ("guarantee_no_evict", "max_utilization")) == "max_utilization"
        length = self.whole("NIM_MAX_MODEL_LEN")
        multiple = self.whole("NIM_NUM_KV_CACHE_SEQ_LENS") if self.switch("NIM_RELAX_MEM_CONSTRAINTS") else None
        longest = length or checkpoint.shape.max_position_embeddings
        config = EngineConfig(
            max_batch_size=self.whole("NIM_MAX_BATCH_SIZE") or 512,
            max_seq_len=length,
            tensor_parallel_size=self.whole("NIM_TENSOR_PARALLEL_SIZE") or profile.tensor_parallel_size,
            pipeline_parallel_size=self.whole("NIM_PIPELINE_PARALLEL_SIZE") or profile.pipeline_parallel_size,
            enable_chunked_prefill=True,
            capacity_policy=CapacityPolicy.MAX_UTILIZATION if packs else CapacityPolicy.GUARANTEED_NO_EVICT,
            cuda_graphs=None if self.switch("NIM_DISABLE_CUDA_GRAPH") else CudaGraphs(256, enable_padding=True),
            overlap_scheduler=not self.switch("NIM_DISABLE_OVERLAP_SCHEDULING"),
            free_gpu_memory_fraction=self.share("NIM_KVCACHE_PERCENT", 0.9),
            kv_max_tokens=None if multiple is None else multiple * longest,
            enable_block_reuse=self.switch("NIM_ENABLE_KV_CACHE_REUSE"),
        )
        return config, checkpoint

    def _choice(self, name: str, allowed: tuple[str, ...]) -> str:
        text = self._variables.get(name, "") or allowed[0]
        if text not in allowed:
            _refuse(name, text, " or ".join(allowed))
        return text


def _refuse(name: str, text: str, wanted: str) -> NoReturn:
    raise StartError(f"ValueError: {name}={text!r} must be {wanted}")
