"""What the scheduler puts into an iteration: budgets, chunks, capacity policies, prefix reuse."""

from __future__ import annotations

import pytest

from engines.simulated.model import (
    CapacityPolicy,
    FinishReason,
    GenerationRequest,
    PromptTooLongError,
    SimulationError,
    hash_blocks,
)
from tests.engines.simulated.sim_builders import request, run_to_end, tiny_simulation


def test_a_request_gets_its_first_token_from_prefill_and_the_others_one_by_one() -> None:
    simulation = tiny_simulation()
    state = simulation.submit(request(100, max_tokens=3))

    iterations = run_to_end(simulation)

    assert [iteration.context_tokens for iteration in iterations] == [100, 0, 0]
    assert [iteration.generation_requests for iteration in iterations] == [0, 1, 1]
    assert state.generated_tokens == 3
    assert state.finish_reason is FinishReason.LENGTH
    assert state.first_token_ms == iterations[0].end_ms
    assert state.last_token_ms == iterations[-1].end_ms


def test_no_iteration_exceeds_the_token_budget() -> None:
    simulation = tiny_simulation(enable_chunked_prefill=True)
    for _ in range(8):
        simulation.submit(request(100))

    for iteration in run_to_end(simulation):
        assert iteration.context_tokens + iteration.generation_requests <= 256


@pytest.mark.parametrize(("overlap", "context_tokens"), [(False, [20, 0]), (True, [0, 20])])
def test_with_overlap_a_request_waits_for_the_iteration_after_the_one_already_put_together(
    overlap: bool, context_tokens: list[int]
) -> None:
    simulation = tiny_simulation(overlap_scheduler=overlap)
    simulation.submit(request(100, max_tokens=10))
    simulation.step()
    simulation.submit(request(20), arrival_ms=simulation.now_ms)

    assert [simulation.step().context_tokens for _ in range(2)] == context_tokens


def test_with_overlap_a_request_to_an_idle_server_does_not_wait() -> None:
    simulation = tiny_simulation()
    simulation.submit(request(100, max_tokens=1))
    run_to_end(simulation)
    simulation.submit(request(20))

    assert simulation.step().context_tokens == 20


def test_no_iteration_exceeds_the_batch_budget() -> None:
    simulation = tiny_simulation(max_batch_size=3)
    for _ in range(10):
        simulation.submit(request(20))

    assert max(iteration.scheduled_requests for iteration in run_to_end(simulation)) == 3


def test_decode_is_scheduled_before_prefill() -> None:
    simulation = tiny_simulation(max_num_tokens=64, enable_chunked_prefill=True, overlap_scheduler=False)
    simulation.submit(request(32, max_tokens=10))
    simulation.step()
    simulation.submit(request(200))

    iteration = simulation.step()

    assert iteration.generation_requests == 1
    assert iteration.context_tokens == 48  # 63 tokens are left, cut down to whole blocks of 16


def test_chunked_prefill_splits_a_long_prompt() -> None:
    simulation = tiny_simulation(enable_chunked_prefill=True)
    simulation.submit(request(600, max_tokens=1))

    assert [iteration.context_tokens for iteration in run_to_end(simulation)] == [256, 256, 88]


def test_without_chunked_prefill_a_long_prompt_is_refused_in_the_servers_words() -> None:
    simulation = tiny_simulation()

    with pytest.raises(PromptTooLongError, match=r"should not exceed max_num_tokens \(256\)"):
        simulation.submit(request(257))


def test_without_chunked_prefill_a_prompt_waits_for_an_iteration_it_fits_into() -> None:
    simulation = tiny_simulation()
    for _ in range(3):
        simulation.submit(request(200, max_tokens=2))

    iterations = run_to_end(simulation)

    assert [iteration.context_tokens for iteration in iterations[:3]] == [200, 200, 200]


def test_a_prompt_as_long_as_the_sequence_limit_is_refused() -> None:
    simulation = tiny_simulation(max_seq_len=128)

    with pytest.raises(PromptTooLongError, match="max_seq_len"):
        simulation.submit(request(128))


def test_max_tokens_beyond_the_sequence_limit_is_lowered() -> None:
    simulation = tiny_simulation(max_seq_len=128)

    state = simulation.submit(request(100, max_tokens=1000))
    run_to_end(simulation)

    assert state.generated_tokens == 28


def test_no_evict_reserves_the_whole_output_and_never_pauses() -> None:
    simulation = tiny_simulation()  # 64 blocks; each request needs (96 + 160) / 16 = 16 of them
    states = [simulation.submit(request(96, max_tokens=160)) for _ in range(8)]

    iterations = run_to_end(simulation)

    assert max(iteration.generation_requests for iteration in iterations) == 4
    assert sum(iteration.paused_requests for iteration in iterations) == 0
    assert all(state.generated_tokens == 160 for state in states)


def test_max_utilization_admits_more_and_pauses_when_blocks_run_out() -> None:
    simulation = tiny_simulation(capacity_policy=CapacityPolicy.MAX_UTILIZATION, enable_chunked_prefill=True)
    states = [simulation.submit(request(96, max_tokens=160)) for _ in range(8)]

    iterations = run_to_end(simulation)

    assert max(iteration.generation_requests for iteration in iterations) > 4
    assert sum(iteration.paused_requests for iteration in iterations) > 0
    assert all(state.generated_tokens == 160 for state in states)


def test_a_paused_request_computes_its_context_again() -> None:
    simulation = tiny_simulation(capacity_policy=CapacityPolicy.MAX_UTILIZATION, enable_chunked_prefill=True)
    states = [simulation.submit(request(96, max_tokens=160)) for _ in range(8)]

    computed = sum(iteration.context_tokens for iteration in run_to_end(simulation))

    assert any(state.pauses for state in states)
    assert computed > 8 * 96


def test_static_batch_admits_nobody_until_the_batch_is_done() -> None:
    simulation = tiny_simulation(capacity_policy=CapacityPolicy.STATIC_BATCH, max_batch_size=2)
    states = [simulation.submit(request(20, max_tokens=tokens)) for tokens in (2, 9, 4, 4)]

    run_to_end(simulation)

    first_batch_end = max(state.last_token_ms or 0.0 for state in states[:2])
    assert all((state.first_scheduled_ms or 0.0) >= first_batch_end for state in states[2:])


def test_a_shared_prefix_is_computed_once() -> None:
    simulation = tiny_simulation()
    hashes = hash_blocks(range(100), 16)
    simulation.submit(request(100, max_tokens=1, hashes=hashes))
    run_to_end(simulation)

    second = simulation.submit(request(100, max_tokens=1, hashes=hashes))
    iterations = run_to_end(simulation)

    assert second.cached_tokens == 96
    assert iterations[0].context_tokens == 4
    assert simulation.kv.reused_blocks == 6


def test_at_least_one_prompt_token_is_always_computed() -> None:
    simulation = tiny_simulation()
    hashes = hash_blocks(range(96), 16)  # exactly six blocks
    simulation.submit(request(96, max_tokens=1, hashes=hashes))
    run_to_end(simulation)

    again = simulation.submit(request(96, max_tokens=1, hashes=hashes))
    run_to_end(simulation)

    assert again.cached_tokens == 80


def test_block_reuse_can_be_switched_off() -> None:
    simulation = tiny_simulation(enable_block_reuse=False)
    hashes = hash_blocks(range(100), 16)
    states = [simulation.submit(request(100, max_tokens=1, hashes=hashes)) for _ in range(2)]
    run_to_end(simulation)

    assert [state.cached_tokens for state in states] == [0, 0]
    assert simulation.kv.used_blocks == 0


def test_different_salts_never_share() -> None:
    assert hash_blocks(range(32), 16, salt=1) != hash_blocks(range(32), 16, salt=2)


def test_cached_blocks_give_way_to_running_requests() -> None:
    simulation = tiny_simulation(enable_chunked_prefill=True)  # 1024 tokens of KV cache
    for start in range(0, 5000, 1000):
        prompt = range(start, start + 600)
        simulation.submit(request(600, max_tokens=1, hashes=hash_blocks(prompt, 16)))
        run_to_end(simulation)

    assert simulation.kv.free_blocks == simulation.kv.max_blocks


def test_a_cancelled_request_frees_its_blocks_and_stays_silent() -> None:
    simulation = tiny_simulation()
    state = simulation.submit(request(100, max_tokens=50))
    simulation.step()

    simulation.abort(state)

    assert state.finish_reason is FinishReason.CANCELLED
    assert not simulation.has_work
    assert simulation.kv.used_blocks == 0


def test_a_request_cancelled_inside_the_pipeline_leaves_when_its_stage_is_done() -> None:
    simulation = tiny_simulation(pipeline_parallel_size=2)
    state = simulation.submit(request(100, max_tokens=50))
    simulation.step()

    simulation.abort(state)
    emitted = [token for iteration in run_to_end(simulation) for token in iteration.emitted]

    assert emitted == []
    assert simulation.kv.used_blocks == 0


def test_pipeline_stages_work_on_different_micro_batches() -> None:
    simulation = tiny_simulation(pipeline_parallel_size=2)
    states = [simulation.submit(request(20, max_tokens=6)) for _ in range(4)]

    iterations = run_to_end(simulation)

    assert {iteration.micro_batch_id for iteration in iterations} == {0, 1}
    assert max(iteration.scheduled_requests for iteration in iterations) == 2
    assert all(state.generated_tokens == 6 for state in states)


def test_an_answer_may_end_by_itself_but_not_before_min_tokens() -> None:
    simulation = tiny_simulation(seed=5)
    states = [simulation.submit(GenerationRequest(20, 200, ignore_eos=False, min_tokens=50)) for _ in range(20)]

    run_to_end(simulation)

    assert {state.finish_reason for state in states} <= {FinishReason.STOP, FinishReason.LENGTH}
    assert any(state.finish_reason is FinishReason.STOP for state in states)
    assert all(50 <= state.generated_tokens <= 200 for state in states)


def test_stepping_an_idle_engine_is_an_error() -> None:
    with pytest.raises(SimulationError, match="has_work"):
        tiny_simulation().step()


def test_one_seed_gives_one_history() -> None:
    def history(seed: int) -> list[float]:
        simulation = tiny_simulation(seed=seed, noise_ratio=0.05)
        for _ in range(6):
            simulation.submit(request(60, max_tokens=20))
        return [iteration.duration_ms for iteration in run_to_end(simulation)]

    assert history(1) == history(1)
    assert history(1) != history(2)
