"""Every form of export, in the order of the help: a new one is a function and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtune.exports import cluster, containers, data, leaderworkerset, load, multinode, plain, triton
from trtune.exports.winner import Wishes, take_winner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sessions.reader import SessionReader
    from trtune.exports.winner import Winner


@dataclass(frozen=True, slots=True)
class Form:
    """A form of export.

    Attributes:
        help: One line.
        make: Writes it from a session, the number of a trial (None: the best) and the wishes of the user.
    """

    help: str
    make: Callable[[SessionReader, int | None, Wishes], str]


def _of_winner(write: Callable[[Winner], str]) -> Callable[[SessionReader, int | None, Wishes], str]:
    """A form that needs the trial with its plan and its engine."""
    return lambda reader, number, wishes: write(take_winner(reader, number, wishes))


FORMS: Mapping[str, Form] = {
    "config": Form(
        "the server's configuration file (TensorRT-LLM: the YAML for trtllm-serve --config)", _of_winner(plain.config)
    ),
    "command": Form("the command line, as a script that also writes the files it needs", _of_winner(plain.command)),
    "env": Form("the variables (NIM 1.x), for docker run --env-file", _of_winner(plain.environment)),
    "docker": Form("a docker run command, as a script that also writes the files", _of_winner(containers.docker_run)),
    "compose": Form("a Docker Compose file", _of_winner(containers.compose)),
    "kubernetes": Form("Deployment, Service and ConfigMap", _of_winner(cluster.kubernetes)),
    "leaderworkerset": Form(
        "vLLM over several hosts: a LeaderWorkerSet and its Service", _of_winner(leaderworkerset.leader_worker_set)
    ),
    "nimservice": Form("NIMCache and NIMService for NVIDIA's NIM Operator", _of_winner(cluster.nimservice)),
    "helm": Form("values for NVIDIA's Helm chart nim-llm", _of_winner(cluster.helm_values)),
    "slurm": Form("TensorRT-LLM over several hosts: a batch script for sbatch", _of_winner(multinode.slurm)),
    "mpirun": Form("TensorRT-LLM over several hosts: a script for mpirun", _of_winner(multinode.mpirun)),
    "config-pbtxt": Form("Triton: the model's config.pbtxt", _of_winner(triton.config_pbtxt)),
    "model-yaml": Form("Triton: the backend's model.yaml or model.json", _of_winner(triton.model_yaml)),
    "aiperf": Form("an AIPerf command with the load of the winning level", _of_winner(load.aiperf)),
    "json": Form("the trial with everything known about it", lambda reader, number, _: data.trial_json(reader, number)),
}
"""Forms by name."""
