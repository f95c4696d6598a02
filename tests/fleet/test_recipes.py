"""The recipes for clusters: each is held against its schema or run dry, with stand-ins for the cluster's own commands."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "cluster"
COMPOSE_SCHEMA = ROOT / "tests" / "data" / "schemas" / "compose-spec.json"

STAND_IN = """#!/usr/bin/env bash
# A stand-in: writes its words down, and does what the real one would do as far as the recipe sees it.
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
case "$(basename "$0") $*" in
    scontrol*) printf 'node1\\nnode2\\nnode3\\n' ;;
    *" trtune tune"*)
        for _ in $(seq 200); do
            [ "$(grep -c 'ray start' "$CALLS")" -ge 2 ] && break
            sleep 0.05
        done
        exit "${TUNE_EXIT:-0}"
        ;;
    *" ray start"*) exec sleep 60 ;;
esac
"""


@pytest.fixture
def slurm(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with stand-ins for Slurm's commands, and the environment of a job on three nodes."""
    for name in ("srun", "scontrol"):
        program = tmp_path / name
        program.write_text(STAND_IN)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    calls = tmp_path / "calls"
    calls.touch()
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_JOB_NODELIST": "node[1-3]",
    }
    return calls, environment


def run_slurm(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", RECIPES / "slurm.sh", *words], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_slurm_script_starts_ray_on_every_node_and_trtune_on_the_first(
    slurm: tuple[Path, dict[str, str]],
) -> None:
    calls, environment = slurm

    done = run_slurm(environment, "plan.toml", "--trials", "8")

    told = calls.read_text().splitlines()
    assert done.returncode == 0, done.stderr
    assert any("--nodelist=node1 ray start --head --port=6379" in line for line in told)
    assert any("--nodes=2 --ntasks=2" in line and "ray start --address=node1:6379" in line for line in told)
    assert any(
        "--nodelist=node1 trtune tune plan.toml --trials 8 --headless --cluster node1:6379 --wait-nodes 3" in line
        for line in told
    )


def test_the_slurm_script_ends_as_the_tuning_ended_and_leaves_nothing(slurm: tuple[Path, dict[str, str]]) -> None:
    calls, environment = slurm

    done = run_slurm({**environment, "TUNE_EXIT": "3"}, "--resume", "old.trtune")

    assert done.returncode == 3
    assert "--resume old.trtune" in calls.read_text()
    left = subprocess.run(["pgrep", "-f", f"{calls.parent}/srun"], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_the_slurm_script_says_how_it_is_used(slurm: tuple[Path, dict[str, str]]) -> None:
    _, environment = slurm

    done = run_slurm(environment)

    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr


def test_the_manifests_meet_kubernetes_schemas() -> None:
    documents = list(yaml.safe_load_all((RECIPES / "kubernetes.yaml").read_text()))

    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)

    assert [document["kind"] for document in documents] == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "PersistentVolumeClaim",
        "Job",
    ]


def test_the_role_may_do_what_the_launcher_does_and_no_more() -> None:
    role = next(
        each for each in yaml.safe_load_all((RECIPES / "kubernetes.yaml").read_text()) if each["kind"] == "Role"
    )
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert not any("*" in each for each in allowed)
    assert {verb for _, resource, verb in allowed if resource == "secrets"} == {"create", "get", "delete"}
    assert {verb for _, resource, verb in allowed if resource == "pods"} == {"get", "list"}


def test_the_compose_file_meets_the_schema_and_holds_no_secret() -> None:
    text = (RECIPES / "compose.yaml").read_text()
    file = yaml.safe_load(text)

    jsonschema.validate(file, json.loads(COMPOSE_SCHEMA.read_text()))

    assert not any("ports" in service for service in file["services"].values())
    assert "POSTGRES_PASSWORD:" not in text
