"""vLLM over several hosts in Kubernetes: a LeaderWorkerSet whose first pod serves and whose others join its Ray cluster.

The start of leader and workers is that of the LeaderWorkerSet project's own example for vLLM (kubernetes-sigs/lws,
docs/examples/vllm/GPU), with the script that vLLM's images carry for it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from engines.launch.kubernetes_manifests import GPU_RESOURCE, ClusterPlace, labels_of, service
from trtune.errors import UsageError
from trtune.exports.cluster import START_LIMIT_S, clustered
from trtune.exports.document import yaml_documents
from trtune.exports.multinode import Size

if TYPE_CHECKING:
    from trtune.exports.winner import Winner

JOIN_SCRIPT = "/vllm-workspace/examples/online_serving/multi-node-serving.sh"
SHM_SIZE = "15Gi"
PROBE_PERIOD_S = 10
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
    serve = shlex.join([*spec.argv, "--distributed-executor-backend", "ray"])
    leader = _pod(winner, size, f"bash {JOIN_SCRIPT} leader --ray_cluster_size=$(LWS_GROUP_SIZE); exec {serve}")
    place = ClusterPlace()
    server = leader["spec"]["containers"][0]
    asked = {"httpGet": {"path": spec.ready_path, "port": container.port}, "periodSeconds": PROBE_PERIOD_S}
    server["ports"] = [{"containerPort": container.port}]
    server["startupProbe"] = {**asked, "failureThreshold": START_LIMIT_S // PROBE_PERIOD_S}
    server["readinessProbe"] = dict(asked)
    leader["metadata"] = {"labels": labels_of(winner.name, place)}
    manifest: dict[str, Any] = {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": winner.name},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": size.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": _pod(winner, size, f"bash {JOIN_SCRIPT} worker --ray_address=$(LWS_LEADER_ADDRESS)"),
            },
        },
    }
    note = "needs the LeaderWorkerSet controller in the cluster, and an image with vLLM's examples"
    return yaml_documents([manifest, service(spec, container, winner.name, place)], [winner.note(), note])


def _pod(winner: Winner, size: Size, command: str) -> dict[str, Any]:
    spec, container = clustered(winner)
    return {
        "spec": {
            "containers": [
                {
                    "name": "vllm",
                    "image": container.image,
                    "command": ["sh", "-c", command],
                    "env": [{"name": name, "value": value} for name, value in spec.environment.items()],
                    "resources": {"limits": {GPU_RESOURCE: str(size.per_node)}},
                    "volumeMounts": [{"name": "dshm", "mountPath": "/dev/shm"}],  # noqa: S108 - what NCCL uses
                }
            ],
            "volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": SHM_SIZE}}],
        }
    }
