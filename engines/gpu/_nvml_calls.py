"""Calls into NVIDIA's management library that may not be there, not be allowed, or lose their GPU (contract gpu_telemetry 1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NOT_SUPPORTED = 3
NO_PERMISSION = 4
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
MEMORY = "nvmlDeviceGetMemoryInfo"
_NEVER_HERE = frozenset({NOT_SUPPORTED, NO_PERMISSION})


@dataclass(slots=True)
class Board:
    """A GPU of the driver, and what is known not to work with it; each MIG instance has one of its own.

    Attributes:
        handle: The driver's.
        index: Place in the driver's order.
        refused: Functions that it does not support, or that this user may not call, with the error number.
        lost: Whether it fell off the bus.
    """

    handle: Any
    index: int
    refused: dict[str, int] = field(default_factory=dict)
    lost: bool = False


class NvmlCalls:
    """Calls of the module `pynvml`; what can never be had is not asked for again."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self._missing: set[str] = set()
        version = getattr(nvml, "nvmlMemory_v2", None)
        self._memory_version: tuple[Any, ...] = () if version is None else (version,)

    def of(self, board: Board, function: str, *arguments: Any) -> Any:
        """A call with the GPU's own handle in front, or None when it cannot be had."""
        return self.about(board, function, board.handle, *arguments)

    def about(self, board: Board, function: str, *arguments: Any) -> Any:
        """A call that concerns a GPU, or None when it cannot be had."""
        if board.lost or function in self._missing or function in board.refused:
            return None
        try:
            return getattr(self.nvml, function)(*arguments)
        except AttributeError:
            self._missing.add(function)
        except self.nvml.NVMLError as error:
            self._remember(board, function, int(error.value))
        return None

    def first(self, board: Board, *functions: str) -> Any:
        """The newest name of a call that this driver has."""
        for function in functions:
            if (value := self.of(board, function)) is not None:
                return value
        return None

    def memory(self, board: Board, handle: Any) -> Any:
        """Memory; version 2 does not count what the driver reserves as used, old drivers have version 1 only."""
        told = self.about(board, MEMORY, handle, *self._memory_version)
        if told is None and self._memory_version and MEMORY in self._missing:
            self._missing.discard(MEMORY)
            self._memory_version = ()
            told = self.about(board, MEMORY, handle)
        return told

    def _remember(self, board: Board, function: str, error: int) -> None:
        if error == FUNCTION_NOT_FOUND:
            self._missing.add(function)
        elif error in _NEVER_HERE:
            board.refused[function] = error
        elif error == GPU_IS_LOST:
            board.lost = True
