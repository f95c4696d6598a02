"""Whatever is asked, no request is lost and the KV cache is never overdrawn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engines.simulated.model import CapacityPolicy, FinishReason, hash_blocks
from tests.engines.simulated.sim_builders import request, tiny_simulation

REQUESTS = st.lists(
    st.tuples(st.integers(1, 250), st.integers(1, 60), st.integers(0, 3), st.booleans()), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(
    requests=REQUESTS,
    policy=st.sampled_from(CapacityPolicy),
    chunked=st.booleans(),
    stages=st.sampled_from([1, 2, 3]),
    reuse=st.booleans(),
    batch=st.integers(1, 8),
    budget=st.sampled_from([256, 300, 1000]),
)
def test_every_request_finishes_or_was_cancelled_and_blocks_stay_within_capacity(
    requests: list[tuple[int, int, int, bool]],
    policy: CapacityPolicy,
    chunked: bool,
    stages: int,
    reuse: bool,
    batch: int,
    budget: int,
) -> None:
    simulation = tiny_simulation(
        capacity_policy=policy,
        enable_chunked_prefill=chunked,
        pipeline_parallel_size=stages,
        enable_block_reuse=reuse,
        max_batch_size=batch,
        max_num_tokens=budget,
        kv_max_tokens=512,
    )
    states = []
    for prompt, output, prefix, cancel in requests:
        hashes = hash_blocks(range(prefix, prefix + prompt), 16)
        state = simulation.submit(request(prompt, output, hashes))
        states.append((state, cancel))

    emitted: dict[int, int] = {}
    steps = 0
    while simulation.has_work:
        iteration = simulation.step()
        steps += 1
        assert steps < 20_000
        assert 0 <= iteration.kv.used_blocks <= iteration.kv.max_blocks
        assert iteration.kv.used_blocks + iteration.kv.free_blocks == iteration.kv.max_blocks
        assert iteration.duration_ms >= 0
        for state in iteration.emitted:
            emitted[state.id] = emitted.get(state.id, 0) + 1
        for state, cancel in states:
            if cancel and state.generated_tokens >= 2:
                simulation.abort(state)

    for state, cancel in states:
        assert emitted.get(state.id, 0) == state.generated_tokens
        if not cancel or state.finish_reason is not FinishReason.CANCELLED:
            assert state.generated_tokens == state.request.max_tokens
    assert simulation.kv.used_blocks == 0
    assert simulation.unfinished_requests == 0
