"""vLLM over several hosts in Kubernetes: a LeaderWorkerSet whose first pod serves and whose others join its Ray cluster.

The start of leader and workers is that of the LeaderWorkerSet project's own example for vLLM (kubernetes-sigs/lws,
docs/examples/vllm/GPU), with the script that vLLM's images carry for it.
"""

from __future__ import annotations

import copy
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engines.launch.kubernetes_manifests import deployment, literal, service
from trtune.errors import UsageError
from trtune.exports.cluster import add_probes, clustered, keys_of, place_of
from trtune.exports.document import yaml_documents
from trtune.exports.multinode import Size
from trtune.exports.winner import places

if TYPE_CHECKING:
    from engines.launch.kubernetes_manifests import Manifest
    from trtune.exports.winner import Winner

JOIN_SCRIPT = "/vllm-workspace/examples/online_serving/multi-node-serving.sh"
_PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size")


def leader_worker_set(winner: Winner) -> str:
    """LeaderWorkerSet and Service.

    Raises:
        UsageError: If the server is not vLLM, no image is known, or its GPUs do not divide evenly over the nodes.
    """
    if winner.engine.name != "vllm":
        raise UsageError(
            f"{winner.engine.title} over several hosts: --format slurm or mpirun for TensorRT-LLM, nimservice for NIM"
        )
    spec, container = clustered(winner)
    size = Size.of(winner, _PARALLEL)
    place = place_of(winner)
    secret, advice = keys_of(winner, spec, place)
    container = replace(container, gpus=places(size.per_node))
    pod = deployment(spec, container, winner.name, place, secret)["spec"]["template"]
    serve = literal(shlex.join([*spec.argv, "--distributed-executor-backend", "ray"]))
    leader = _pod(pod, f"bash {JOIN_SCRIPT} leader --ray_cluster_size=$(LWS_GROUP_SIZE); exec {serve}")
    add_probes(leader["spec"]["containers"][0], spec, container)
    worker = _pod(pod, f"bash {JOIN_SCRIPT} worker --ray_address=$(LWS_LEADER_ADDRESS)")
    del worker["metadata"]  # else the Service sends requests to it
    del worker["spec"]["containers"][0]["ports"]
    manifest: dict[str, Any] = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": winner.name, "namespace": place.namespace},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": size.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": worker,
            },
        },
    }
    note = "needs the LeaderWorkerSet controller in the cluster, and an image with Ray and vLLM's examples"
    notes = [winner.note(), note, *advice]
    return yaml_documents([manifest, service(spec, container, winner.name, place)], notes)


def _pod(template: Manifest, command: str) -> Manifest:
    """The server's pod with another command."""
    pod = copy.deepcopy(template)
    server = pod["spec"]["containers"][0]
    server.pop("args", None)
    server["command"] = ["sh", "-c", command]
    return pod
