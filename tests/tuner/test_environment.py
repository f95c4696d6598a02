"""The worker's environment: nothing of it reaches a server."""

from __future__ import annotations

from tuner.environment import BLAS_THREADS, restore, worker_environment


def test_what_the_worker_is_given_is_taken_away_again() -> None:
    environment = {"HOME": "x"}
    environment |= worker_environment(environment)
    assert environment[BLAS_THREADS] == "1"

    restore(environment)

    assert environment == {"HOME": "x"}


def test_a_choice_of_the_users_own_is_left_alone() -> None:
    environment = {BLAS_THREADS: "8"}
    environment |= worker_environment(environment)

    restore(environment)

    assert environment == {BLAS_THREADS: "8"}
