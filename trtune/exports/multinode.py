"""TensorRT-LLM over several hosts: a Slurm batch script, or a script for mpirun (contract trtllm 1.6).

One task for each GPU runs `trtllm-llmapi-launch`. The first of them starts trtllm-serve, which reads the YAML and serves
HTTP; the others only work. What trips people up stands in the scripts as comments.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtune.errors import UsageError
from trtune.exports.plain import shell_words, write_files
from trtune.exports.winner import product_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engines.knob import Value
    from engines.launch.spec import LaunchSpec
    from trtune.exports.winner import Winner

LAUNCHER = "trtllm-llmapi-launch"
SCRIPT = "trtllm-serve.sh"
STRIPPED = (
    *("OMPI_", "PMIX_", "PMI_", "SLURM_", "MPI_", "UCX_", "I_MPI_", "HYDRA_", "KMP_", "MPICH_", "MV2_", "CRAY_"),
)
"""Variables with these beginnings are taken away from the server process by the launcher; the workers keep them."""

_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size")
_NAMED = (
    "HF_TOKEN",
    "HF_HOME",
    "NCCL_SOCKET_IFNAME",
    "NCCL_IB_HCA",
    "NCCL_P2P_DISABLE",
    "NCCL_DEBUG",
)
"""Variables of the caller that mpirun hands on when they are set: it hands on none by itself."""


def slurm(winner: Winner) -> str:
    """A batch script: `sbatch FILE`.

    Raises:
        UsageError: If the server is not TensorRT-LLM, or its GPUs do not divide evenly over the nodes.
    """
    spec, size = _spec(winner), Size.of(winner)
    words = [
        *("srun", "--mpi=pmix", "--nodes", str(size.nodes), "--ntasks", str(size.world)),
        *("--ntasks-per-node", str(size.per_node)),
    ]
    container = []
    if winner.wishes.image:
        model = winner.model
        of_model = f",{shlex.quote(f'{model}:{model}:ro')}" if model.startswith("/") else ""
        container = [
            f"--container-image={shlex.quote(winner.wishes.image)}",
            f'--container-mounts="$PWD:$PWD"{of_model}',
            '--container-workdir="$PWD"',
        ]
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={winner.name}",
        f"#SBATCH --nodes={size.nodes}",
        f"#SBATCH --ntasks={size.world}",
        f"#SBATCH --ntasks-per-node={size.per_node}",
        f"#SBATCH --gpus-per-node={size.per_node}",
        "#SBATCH --exclusive",
        f"# {winner.note()}",
        "# Submit it from a folder that every node sees. The server answers on the first node of the job:",
        '#   scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1',
        *_traps(spec.environment),
        "# It stops after the words of leader and workers? Then srun has the wrong number of tasks or no PMIx:",
        "#   srun --mpi=list",
        "set -euo pipefail",
    ]
    spec = _launchable(spec)
    run = " \\\n  ".join([shell_words(tuple(words)), *container, LAUNCHER, shell_words(spec.argv)])
    return "\n".join(lines) + f"\n{write_files(spec)}{_exports(spec.environment)}exec {run}\n"


def mpirun(winner: Winner) -> str:
    """A shell script that starts the server over the hosts in the file `hosts`.

    Raises:
        UsageError: If the server is not TensorRT-LLM, or its GPUs do not divide evenly over the nodes.
    """
    spec, size = _spec(winner), Size.of(winner)
    words = [
        *("mpirun", "-n", str(size.world), "--oversubscribe", "--allow-run-as-root"),
        *(() if size.nodes == 1 else ("--hostfile", "hosts", "--map-by", f"ppr:{size.per_node}:node")),
        *(word for name in spec.environment for word in ("-x", name)),
    ]
    lines = [
        "#!/bin/bash",
        f"# {winner.note()}",
        *(
            ()
            if size.nodes == 1
            else (
                f"# The file `hosts` names {size.nodes} hosts, the one that serves HTTP first: HOST slots={size.per_node}",
                "# Folder and model lie at the same place on all of them.",
            )
        ),
        *_traps(spec.environment),
        "# In a container with several networks Open MPI may choose the wrong one: export OMPI_MCA_btl_tcp_if_include=eth0",
        "set -euo pipefail",
        'if [ -n "${SLURM_JOB_ID:-}" ]; then',
        f"  echo 'in a Slurm job every task of mpirun has a rank of Slurm, which {LAUNCHER} takes first: use --format slurm' >&2",
        "  exit 2",
        "fi",
    ]
    spec = _launchable(spec)
    handed_on = (
        "handed_on=()\n"
        f"for name in {' '.join(_NAMED)}; do\n"
        '  if [ -n "${!name:-}" ]; then handed_on+=(-x "$name"); fi\n'
        "done\n"
    )
    run = " \\\n  ".join(
        [shell_words(tuple(words)), '${handed_on[@]+"${handed_on[@]}"}', LAUNCHER, shell_words(spec.argv)]
    )
    return "\n".join(lines) + f"\n{write_files(spec)}{_exports(spec.environment)}{handed_on}exec {run}\n"


class Size:
    """How many tasks, on how many nodes."""

    def __init__(self, world: int, per_node: int) -> None:
        self.world = world
        self.per_node = per_node
        self.nodes = world // per_node

    @classmethod
    def of(cls, winner: Winner, parallel: Iterable[str] = _PARALLEL) -> Size:
        """One task for each GPU that the configuration uses.

        Args:
            winner: The configuration.
            parallel: Knobs whose product is the number of GPUs.

        Raises:
            UsageError: If they do not divide evenly over the nodes.
        """
        world = winner.wishes.gpus or _world(winner.trial.params, parallel)
        per_node = min(winner.wishes.gpus_per_node, world)
        if world % per_node:
            raise UsageError(
                f"--gpus-per-node {per_node}: the configuration's {world} GPUs do not divide evenly over such nodes"
            )
        return cls(world, per_node)


def _world(params: Mapping[str, Value], parallel: Iterable[str]) -> int:
    return product_of(params.get(name) for name in parallel)


def _spec(winner: Winner) -> LaunchSpec:
    if winner.engine.name != "trtllm":
        raise UsageError(f"{winner.engine.title} is not started over several hosts by trtune; try --format command")
    return winner.process()


def _launchable(spec: LaunchSpec) -> LaunchSpec:
    """The command as the launcher passes it on: that splits it at blanks again, so one with quotes goes into a file."""
    if all(shlex.quote(word) == word for word in spec.argv):
        return spec
    files = {**spec.files, Path(SCRIPT): f"exec {shell_words(spec.argv)}\n"}
    return replace(spec, argv=("bash", SCRIPT), files=files)


def _traps(environment: Iterable[str]) -> list[str]:
    """What the launcher does to the environment, and which of the plan's variables it concerns."""
    lost = sorted(name for name in environment if name.startswith(STRIPPED))
    told = [
        f"# {LAUNCHER} takes variables that begin with {', '.join(STRIPPED[:6])} ... away from the server process;",
        "# its workers keep them.",
    ]
    return [*told, f"# Of this configuration that concerns: {', '.join(lost)}."] if lost else told


def _exports(environment: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
