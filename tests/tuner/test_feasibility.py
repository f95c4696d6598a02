"""Feasibility: what cannot work is told apart before it is started, with the reason and the knobs to move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.gpu.hardware import GPUS
from engines.knob import Value
from engines.models import Checkpoint, load_checkpoint
from tuner.search.feasibility import Feasibility
from tuner.search.memory_estimate import estimate_memory
from tuner.search.problem import Hardware, WorkloadShape
from tuner.search.settings import SettingsReader

DEFAULTS: dict[str, Value] = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "max_batch_size": 64,
    "max_num_tokens": 8192,
    "enable_chunked_prefill": False,
    "kv_cache_config.free_gpu_memory_fraction": 0.9,
    "kv_cache_config.dtype": "auto",
    "max_seq_len": None,
    "checkpoint": None,
    "moe_expert_parallel_size": None,
    "enable_attention_dp": False,
}
WORKLOAD = WorkloadShape(1000, 128, (32.0,), 1300, 170)


def judge(model: str = "llama-3.1-8b", gpu: str = "h100-sxm", gpus: int = 4) -> Feasibility:
    checkpoint: Checkpoint = load_checkpoint(model)
    return Feasibility(Hardware(GPUS[gpu], gpus), checkpoint, WORKLOAD, SettingsReader(DEFAULTS, checkpoint))


def test_what_works_is_let_through() -> None:
    assert judge().rejection({}) is None
    assert judge("llama-3.3-70b-fp8").rejection({"tensor_parallel_size": 2}) is None


@pytest.mark.parametrize(
    ("model", "gpu", "params", "words", "accused"),
    [
        (
            "llama-3.1-8b",
            "h100-sxm",
            {"tensor_parallel_size": 8},
            "needs 8 GPUs and there are 4",
            "tensor_parallel_size",
        ),
        (
            "llama-3.1-8b",
            "h100-sxm",
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 4},
            "needs 8 GPUs",
            "tensor_parallel_size",
        ),
        (
            "mixtral-8x7b",
            "h100-sxm",
            {"tensor_parallel_size": 4, "moe_expert_parallel_size": 3},
            "8 experts cannot be dealt out evenly over 3 GPUs",
            "moe_expert_parallel_size",
        ),
        ("qwen2.5-7b", "h100-sxm", {"tensor_parallel_size": 3}, "28 attention heads", "tensor_parallel_size"),
        ("llama-3.3-70b", "h100-sxm", {}, "weights of 141.1 GB a GPU", "tensor_parallel_size"),
        ("llama-3.1-8b", "a100-sxm", {"checkpoint": "llama-3.1-8b-fp8"}, "no tensor cores for fp8", "checkpoint"),
        ("llama-3.1-8b", "h100-sxm", {"max_num_tokens": 1024}, "prompts longer than", "enable_chunked_prefill"),
        ("llama-3.1-8b", "h100-sxm", {"max_seq_len": 1024}, "takes 1024 tokens a request", "max_seq_len"),
        (
            "llama-3.1-8b",
            "h100-sxm",
            {"kv_cache_config.free_gpu_memory_fraction": 0.999},
            "the KV cache's share leaves",
            "kv_cache_config.free_gpu_memory_fraction",
        ),
        (
            "llama-3.1-8b",
            "l4",
            {"kv_cache_config.free_gpu_memory_fraction": 0.001},
            "the longest request needs 1470",
            "kv_cache_config.free_gpu_memory_fraction",
        ),
    ],
)
def test_each_rejection_has_its_reason_and_its_knob(
    model: str, gpu: str, params: dict[str, Value], words: str, accused: str
) -> None:
    rejection = judge(model, gpu).rejection(params)

    assert rejection is not None
    assert words in rejection.reason
    assert rejection.accused[0] == accused


@pytest.mark.parametrize(("model", "gpu"), [("llama-3.1-8b-nvfp4", "h100-sxm"), ("llama-3.1-8b-fp8", "a100-sxm")])
def test_servers_with_kernels_for_the_weights_alone_need_no_tensor_cores(model: str, gpu: str) -> None:
    checkpoint = load_checkpoint(model)
    defaults: dict[str, Value] = {"tensor-parallel-size": 1, "gpu-memory-utilization": 0.92}
    vllm = Feasibility(Hardware(GPUS[gpu], 1), checkpoint, WORKLOAD, SettingsReader(defaults, checkpoint))

    assert vllm.rejection({}) is None
    assert judge(model, gpu).rejection({}) is not None


def test_chunked_prefill_makes_a_small_token_budget_possible() -> None:
    assert judge().rejection({"max_num_tokens": 1024, "enable_chunked_prefill": True}) is None


@given(
    st.sampled_from(["llama-3.1-8b", "llama-3.3-70b", "mixtral-8x7b"]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([8, 128, 2048]),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_asking_for_fewer_requests_or_less_cache_never_makes_it_fail(
    model: str, tp: int, batch: int, share: float
) -> None:
    check = judge(model)
    params: dict[str, Value] = {
        "tensor_parallel_size": tp,
        "max_batch_size": batch,
        "kv_cache_config.free_gpu_memory_fraction": share,
    }

    if check.rejection(params) is None:
        assert check.rejection({**params, "max_batch_size": 8}) is None
        assert check.rejection({**params, "kv_cache_config.free_gpu_memory_fraction": 0.4}) is None


def test_attention_data_parallelism_costs_weights_and_saves_copies_of_the_kv_cache() -> None:
    checkpoint = load_checkpoint("qwen3-30b-a3b")
    reader = SettingsReader(DEFAULTS, checkpoint)
    rows = [{"tensor_parallel_size": 8, "enable_attention_dp": on} for on in (False, True)]

    memory = estimate_memory(reader.of_params(rows), checkpoint.shape, Hardware(GPUS["h100-sxm"], 8))

    assert memory.weight_bytes[1] > memory.weight_bytes[0]
    assert memory.kv_bytes_per_token[1] == memory.kv_bytes_per_token[0] / 2, "4 KV heads on 8 GPUs are held twice"
