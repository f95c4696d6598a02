"""Kubernetes: a Deployment with its Service and files, a NIMService of NVIDIA's NIM Operator, or values for its Helm chart."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engines._nim_tables import BY_VARIABLES, line_of
from engines.launch.container import ALL_GPUS
from engines.launch.kubernetes_manifests import (
    GPU_RESOURCE,
    PROFILE_VARIABLE,
    ClusterPlace,
    Manifest,
    config_map,
    deployment,
    gpu_count,
    literal,
    nim_cache,
    nim_service,
    service,
)
from sessions.text import clean_line
from trtune.errors import UsageError
from trtune.exports.document import yaml_documents
from trtune.exports.winner import places

if TYPE_CHECKING:
    from engines.launch.container import Container
    from engines.launch.spec import LaunchSpec
    from trtune.exports.winner import Winner

NGC_SECRET = "ngc-api-secret"  # noqa: S105 - the name of a Secret in NVIDIA's documentation
PULL_SECRET = "ngc-secret"  # noqa: S105 - likewise
PORT_VARIABLE = "NIM_SERVER_PORT"
"""The chart sets it from `model.openaiPort`."""

ROOM = "set the size of the storage to what the weights need"
START_LIMIT_S = 3600
PROBE_PERIOD_S = 10
PROBE_TIMEOUT_S = 5
"""A busy server answers its health path late; Kubernetes' own second would take it out of service."""


def kubernetes(winner: Winner) -> str:
    """Deployment, Service and, when the server has files, ConfigMap.

    Raises:
        UsageError: If no image is known.
    """
    spec, container = clustered(winner)
    place = place_of(winner)
    secret, advice = keys_of(winner, spec, place)
    main = deployment(spec, container, winner.name, place, secret)
    add_probes(main["spec"]["template"]["spec"]["containers"][0], spec, container)
    parts = [main, service(spec, container, winner.name, place)]
    if spec.files:
        parts.insert(0, config_map(spec, winner.name, place))
    return yaml_documents(parts, [winner.note(), *advice, *_of_large_node(winner, container)])


def nimservice(winner: Winner) -> str:
    """NIMCache and NIMService for the NIM Operator.

    Raises:
        UsageError: If the server is no NIM, or no image is known.
    """
    if winner.engine.name != "nim":
        raise UsageError(f"{winner.engine.title} is no NIM; try --format kubernetes")
    spec, container = clustered(winner)
    planned = place_of(winner)
    place = replace(
        planned,
        nim_operator=True,
        nim_cache=planned.nim_cache or f"{winner.name}-cache",
        auth_secret=planned.auth_secret or NGC_SECRET,
    )
    main = nim_service(spec, container, winner.name, place, place.auth_secret)
    profile = spec.environment.get(PROFILE_VARIABLE)
    cache = nim_cache(container.image, place.nim_cache, place, [profile] if profile else place.cache_profiles)
    if _span_nodes(main, winner):
        cache["spec"]["storage"]["pvc"]["volumeAccessMode"] = "ReadWriteMany"
    _, advice = keys_of(winner, spec, place)
    return yaml_documents([cache, main], [winner.note(), *advice, ROOM])


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
    told = {name: value for name, value in spec.environment.items() if name != PORT_VARIABLE}
    variables = {**told, **({"NIM_PASSTHROUGH_ARGS": shlex.join(flags)} if flags else {})}
    planned = place_of(winner)
    place = replace(planned, auth_secret=planned.auth_secret or NGC_SECRET)
    values: Manifest = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
        "model": {"ngcAPISecret": place.auth_secret, "openaiPort": container.port},
        "replicaCount": 1,
        "resources": {"limits": {GPU_RESOURCE: gpu_count(container)}},
        "persistence": {"enabled": True, "size": "50Gi"},
        "env": [{"name": name, "value": literal(value)} for name, value in variables.items()],
    }
    advice = (
        *keys_of(winner, spec, place)[1],
        ROOM,
        *_of_large_node(winner, container),
        "then: helm install NAME nim-llm-VERSION.tgz --values THIS-FILE",
        *(
            ("some builds of 2.x ignore NIM_PASSTHROUGH_ARGS: look at the settings in the server's log",)
            if flags
            else ()
        ),
    )
    return yaml_documents([values], [winner.note(), *advice])


def place_of(winner: Winner) -> ClusterPlace:
    """Where the plan starts servers; else wherever the one who applies it is: no namespace, NVIDIA's names of Secrets."""
    if winner.plan.engine.cluster is not None:
        return winner.plan.engine.cluster.to_place()
    return ClusterPlace(namespace="", pull_secrets=(PULL_SECRET,) if winner.engine.name == "nim" else ())


def keys_of(winner: Winner, spec: LaunchSpec, place: ClusterPlace) -> tuple[str, list[str]]:
    """The Secret with the server's keys (empty: it takes none), and how to make what a manifest only names."""
    names = [name for name in spec.inherit if name.isupper() and "PROXY" not in name]
    if place.auth_secret:
        names = names[:1]
    secret = place.auth_secret or (f"{winner.name}-keys" if names else "")
    into = f" --namespace {shlex.quote(place.namespace)}" if place.namespace else ""
    literals = " ".join(f"--from-literal={name}=..." for name in names)
    advice = [f"first: kubectl create secret generic {shlex.quote(secret)}{into} {literals}"] if names else []
    login = "--docker-server=REGISTRY --docker-username='$oauthtoken' --docker-password=..."
    advice += [
        f"and for its image: kubectl create secret docker-registry {shlex.quote(pull)}{into} {login}"
        for pull in place.pull_secrets
    ]
    return secret, [clean_line(line) for line in advice]


def _of_large_node(winner: Winner, container: Container) -> list[str]:
    """A warning where one node is unlikely to have so many GPUs."""
    count, usual = gpu_count(container), winner.wishes.gpus_per_node
    if count <= usual:
        return []
    return [
        f"it needs one node with {count} GPUs; --gpus-per-node says {usual}: forms for several nodes are in the help"
    ]


def _span_nodes(manifest: Manifest, winner: Winner) -> bool:
    """A NIM larger than a node spans several by a LeaderWorkerSet that the operator makes (contract nim 8).

    The pipeline runs over the nodes and the tensors within them. Returns whether it does.

    Raises:
        UsageError: If the configuration cannot be spread so.
    """
    gpus, per_node = winner.gpus, winner.wishes.gpus_per_node
    if gpus <= per_node:
        return False
    if gpus % per_node:
        raise UsageError(f"--gpus-per-node {per_node}: {gpus} GPUs do not divide evenly over such nodes")
    spread = {"tensor-parallel-size": per_node, "pipeline-parallel-size": gpus // per_node}
    for name, size in spread.items():
        told = winner.trial.params.get(name)
        if told is not None and told != size:
            raise UsageError(
                f"--gpus-per-node {per_node}: the NIM Operator would run {name} {size}, and the trial ran {told}"
            )
    older = line_of(winner.plan.engine.known_version) in BY_VARIABLES
    manifest["spec"]["resources"]["limits"][GPU_RESOURCE] = str(per_node)
    manifest["spec"]["multiNode"] = {
        "backendType": "lws",
        "parallelism": {"tensor": per_node, "pipeline": gpus // per_node},
        **({"mpi": {"mpiStartTimeout": 300}} if older else {"ray": {"rayPort": 6379}}),
    }
    if not older:
        # The operator asks for JSON logs, which Ray's workers cannot write (documentation of NIM, multi-node deployment).
        manifest["spec"]["env"].append({"name": "NIM_JSONL_LOGGING", "value": "0"})
    return True


def clustered(winner: Winner) -> tuple[LaunchSpec, Container]:
    """The container on a pod's own network, with a number of GPUs: a cluster knows no indices."""
    spec, container = winner.container()
    gpus = container.gpus if ALL_GPUS not in container.gpus else places(winner.gpus)
    return spec, replace(container, gpus=gpus, port=winner.wishes.port)


def add_probes(server: dict[str, Any], spec: LaunchSpec, container: Container) -> None:
    """Kubernetes waits for a slow start, and sends requests to a ready server only."""
    asked = {
        "httpGet": {"path": spec.ready_path, "port": container.port},
        "periodSeconds": PROBE_PERIOD_S,
        "timeoutSeconds": PROBE_TIMEOUT_S,
    }
    server["startupProbe"] = {**asked, "failureThreshold": START_LIMIT_S // PROBE_PERIOD_S}
    server["readinessProbe"] = dict(asked)
