"""Kubernetes: a Deployment with its Service and files, a NIMService of NVIDIA's NIM Operator, or values for its Helm chart."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engines._nim_tables import BY_VARIABLES, line_of
from engines.launch.container import ALL_GPUS
from engines.launch.kubernetes_manifests import (
    GPU_RESOURCE,
    ClusterPlace,
    Manifest,
    config_map,
    deployment,
    gpu_count,
    nim_cache,
    nim_service,
    service,
)
from trtune.errors import UsageError
from trtune.exports.document import yaml_documents

if TYPE_CHECKING:
    from engines.launch.container import Container
    from engines.launch.spec import LaunchSpec
    from trtune.exports.winner import Winner

NGC_SECRET = "ngc-api-secret"  # noqa: S105 - the name of a Secret in NVIDIA's documentation
PULL_SECRET = "ngc-secret"  # noqa: S105 - likewise
START_LIMIT_S = 3600
PROBE_PERIOD_S = 10


def kubernetes(winner: Winner) -> str:
    """Deployment, Service and, when the server has files, ConfigMap.

    Raises:
        UsageError: If no image is known.
    """
    spec, container = clustered(winner)
    place = ClusterPlace()
    secret = f"{winner.name}-keys" if spec.inherit else ""
    main = deployment(spec, container, winner.name, place, secret)
    _add_probes(main, spec, container)
    parts = [main, service(spec, container, winner.name, place)]
    if spec.files:
        parts.insert(0, config_map(spec, winner.name, place))
    advice: list[str] = []
    if secret:
        literals = " ".join(
            f"--from-literal={name}=..." for name in spec.inherit if name.isupper() and "PROXY" not in name
        )
        advice.append(f"first: kubectl create secret generic {secret} {literals}")
    return yaml_documents(parts, [winner.note(), *advice])


def nimservice(winner: Winner) -> str:
    """NIMCache and NIMService for the NIM Operator.

    Raises:
        UsageError: If the server is no NIM, or no image is known.
    """
    if winner.engine.name != "nim":
        raise UsageError(f"{winner.engine.title} is no NIM; try --format kubernetes")
    spec, container = clustered(winner)
    place = ClusterPlace(
        nim_operator=True, nim_cache=f"{winner.name}-cache", auth_secret=NGC_SECRET, pull_secrets=(PULL_SECRET,)
    )
    main = nim_service(spec, container, winner.name, place, NGC_SECRET)
    _span_nodes(main, winner)
    cache = nim_cache(container.image, place.nim_cache, place)
    advice = (
        f"first: kubectl create secret generic {NGC_SECRET} --from-literal=NGC_API_KEY=...",
        f"and the pull secret {PULL_SECRET} for the image",
    )
    return yaml_documents([cache, main], [winner.note(), *advice])


def helm_values(winner: Winner) -> str:
    """Values for NVIDIA's chart nim-llm (contract nim 8); flags of 2.x go in by NIM_PASSTHROUGH_ARGS.

    Raises:
        UsageError: If the server is no NIM, or no image with a tag is known.
    """
    if winner.engine.name != "nim":
        raise UsageError(f"{winner.engine.title} is no NIM; try --format kubernetes")
    spec, container = clustered(winner)
    repository, _, tag = container.image.rpartition(":")
    if not repository or "/" in tag:
        raise UsageError(f"image {container.image!r} has no tag, and the chart needs one: name it with --image")
    flags = spec.argv[1:]
    variables = {**spec.environment, **({"NIM_PASSTHROUGH_ARGS": shlex.join(flags)} if flags else {})}
    values: Manifest = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "imagePullSecrets": [{"name": PULL_SECRET}],
        "model": {"ngcAPISecret": NGC_SECRET, "openaiPort": container.port},
        "replicaCount": 1,
        "resources": {"limits": {GPU_RESOURCE: gpu_count(container)}},
        "persistence": {"enabled": True, "size": "50Gi"},
        "env": [{"name": name, "value": value} for name, value in variables.items()],
    }
    advice = (
        f"first: kubectl create secret generic {NGC_SECRET} --from-literal=NGC_API_KEY=..., and {PULL_SECRET} for the image",
        "then: helm install NAME nim-llm-VERSION.tgz --values THIS-FILE",
        *(
            ("some builds of 2.x ignore NIM_PASSTHROUGH_ARGS: look at the settings in the server's log",)
            if flags
            else ()
        ),
    )
    return yaml_documents([values], [winner.note(), *advice])


def _span_nodes(manifest: Manifest, winner: Winner) -> None:
    """A NIM larger than a node spans several by a LeaderWorkerSet that the operator makes (contract nim 8).

    The pipeline runs over the nodes and the tensors within them.
    """
    gpus, per_node = winner.gpus, winner.wishes.gpus_per_node
    if gpus <= per_node:
        return
    if gpus % per_node:
        raise UsageError(f"--gpus-per-node {per_node}: {gpus} GPUs do not divide evenly over such nodes")
    older = line_of(winner.plan.engine.known_version) in BY_VARIABLES
    manifest["spec"]["resources"]["limits"][GPU_RESOURCE] = str(per_node)
    manifest["spec"]["multiNode"] = {
        "backendType": "lws",
        "parallelism": {"tensor": per_node, "pipeline": gpus // per_node},
        **({"mpi": {"mpiStartTimeout": 300}} if older else {"ray": {"rayPort": 6379}}),
    }


def clustered(winner: Winner) -> tuple[LaunchSpec, Container]:
    """The container on a pod's own network, with a number of GPUs: a cluster knows no indices."""
    spec, container = winner.container()
    gpus = container.gpus if ALL_GPUS not in container.gpus else tuple(str(place) for place in range(winner.gpus))
    return spec, replace(container, gpus=gpus, port=winner.wishes.port)


def _add_probes(manifest: Manifest, spec: LaunchSpec, container: Container) -> None:
    """Kubernetes waits for a slow start, and sends requests to a ready server only."""
    asked = {"httpGet": {"path": spec.ready_path, "port": container.port}, "periodSeconds": PROBE_PERIOD_S}
    server: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    server["startupProbe"] = {**asked, "failureThreshold": START_LIMIT_S // PROBE_PERIOD_S}
    server["readinessProbe"] = dict(asked)
