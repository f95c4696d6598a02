"""Kubernetes resources of a server, as data: a plain Deployment, or a NIMService of NVIDIA's NIM Operator.

They hold no secret: values of inherited variables go into a Secret of their own, or stand in one that is already there.
NIM Operator fields: contract nim 8, and `api/apps/v1alpha1/nimservice_types.go` of NVIDIA/k8s-nim-operator.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engines.errors import BadConfiguration
from engines.launch.container import ALL_GPUS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engines.launch.container import Container
    from engines.launch.spec import LaunchSpec

Manifest = dict[str, Any]
"""A resource as the API takes it."""

NIM_GROUP = "apps.nvidia.com"
NIM_VERSION = "v1alpha1"
MANAGED_BY = "trtune"
GPU_RESOURCE = "nvidia.com/gpu"
GPU_TOLERATION = {"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}
PROFILE_VARIABLE = "NIM_MODEL_PROFILE"
GRACE_S = 30
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """Where in a cluster servers go, and how they are reached.

    Attributes:
        namespace: Namespace; it must exist.
        context: Context of the kubeconfig; empty: the current one, or the cluster this program runs in.
        port_forward: Reach the server through the API server, from anywhere; adds its way to every latency. Else by the
            Service's name inside the cluster, which is how to measure.
        nim_operator: Make a NIMService instead of a Deployment.
        nim_cache: NIMCache with the weights (NIMService); one that is not there is made, and kept.
        cache_profiles: Profiles a new NIMCache downloads; empty: the operator's choice.
        auth_secret: Existing Secret with `NGC_API_KEY`; empty: one is made from the inherited variables.
        pull_secrets: Existing Secrets for pulling the image.
        node_selector: Labels of the nodes to use.
        labels: Further labels on all that is made.
    """

    namespace: str = "default"
    context: str = ""
    port_forward: bool = True
    nim_operator: bool = False
    nim_cache: str = ""
    cache_profiles: tuple[str, ...] = ()
    auth_secret: str = ""
    pull_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def labels_of(name: str, place: ClusterPlace) -> dict[str, str]:
    """Labels of all that belongs to a server; pods carry `app` too, which the NIM Operator sets by itself."""
    return {**place.labels, "app": name, "app.kubernetes.io/managed-by": MANAGED_BY, "trtune/server": name}


def deployment(spec: LaunchSpec, container: Container, name: str, place: ClusterPlace, secret: str) -> Manifest:
    """A Deployment of one pod; a change replaces it before the next one starts, since the GPU must be free.

    Raises:
        BadConfiguration: If the container asks for all GPUs, or its user is not a number.
    """
    labels = labels_of(name, place)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"trtune/server": name}},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(spec, container, name, place, secret)},
        },
    }


def single_pod(spec: LaunchSpec, container: Container, name: str, place: ClusterPlace, secret: str) -> Manifest:
    """A pod that runs a command once.

    Raises:
        BadConfiguration: As `deployment`.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels_of(name, place)},
        "spec": {**_pod_spec(spec, container, name, place, secret), "restartPolicy": "Never"},
    }


def _pod_spec(spec: LaunchSpec, container: Container, name: str, place: ClusterPlace, secret: str) -> Manifest:
    pod: Manifest = {
        "terminationGracePeriodSeconds": GRACE_S,
        # Else a Service called vllm puts a variable VLLM_PORT into every pod, which vLLM then takes for its own.
        "enableServiceLinks": False,
        "containers": [_pod_container(spec, container, name, secret)],
        "volumes": _volumes(spec, container, name),
        "tolerations": [dict(GPU_TOLERATION)],
        "imagePullSecrets": [{"name": pull} for pull in place.pull_secrets],
        "nodeSelector": dict(place.node_selector),
    }
    if container.user:
        pod["securityContext"] = _security(container.user)
    return pod


def service(spec: LaunchSpec, container: Container, name: str, place: ClusterPlace) -> Manifest:
    """The Service in front of the Deployment's pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels_of(name, place)},
        "spec": {
            "type": "ClusterIP",
            "selector": {"trtune/server": name},
            "ports": [
                {"name": f"http-{distance}" if distance else "http", "port": port, "targetPort": port}
                for distance, port in ((distance, container.port + distance) for distance in spec.ports)
            ],
        },
    }


def config_map(spec: LaunchSpec, name: str, place: ClusterPlace) -> Manifest:
    """The configuration files of the server."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels_of(name, place)},
        "data": {key: spec.files[path] for path, key in file_keys(spec).items()},
    }


def file_keys(spec: LaunchSpec) -> dict[Path, str]:
    """Keys of the files in the ConfigMap: their names, with a number where a name repeats or may be no key."""
    names = Counter(path.name for path in spec.files)
    return {
        path: path.name if names[path.name] == 1 and _KEY.fullmatch(path.name) else f"file-{number}"
        for number, path in enumerate(spec.files)
    }


def secret_manifest(values: Mapping[str, str], name: str, place: ClusterPlace) -> Manifest:
    """A Secret of variables. It holds the values themselves: never record it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels_of(name, place)},
        "type": "Opaque",
        "stringData": dict(values),
    }


def nim_service(spec: LaunchSpec, container: Container, name: str, place: ClusterPlace, secret: str) -> Manifest:
    """A NIMService: the NIM Operator makes the Deployment and the Service of it.

    Raises:
        BadConfiguration: If the image has no tag, or there is neither a NIMCache nor a claim for the weights.
    """
    repository, _, tag = container.image.rpartition(":")
    if not repository or "/" in tag:
        raise BadConfiguration(f"image {container.image!r} has no tag; the NIM Operator needs one")
    variables = dict(spec.environment)
    profile = variables.get(PROFILE_VARIABLE, "")
    body: Manifest = {
        "image": {
            "repository": repository,
            "tag": tag,
            "pullPolicy": "IfNotPresent",
            "pullSecrets": list(place.pull_secrets),
        },
        "authSecret": secret,
        "env": _variables(variables),
        "labels": labels_of(name, place),
        "nodeSelector": dict(place.node_selector),
        "tolerations": [dict(GPU_TOLERATION)],
        "replicas": 1,
        "storage": _nim_storage(container, place, profile),
        "resources": {"limits": {GPU_RESOURCE: str(gpu_count(container))}},
        "expose": {"service": {"type": "ClusterIP", "port": container.port}},
    }
    if spec.argv:
        body["args"] = literal_words(spec.argv)
    return {
        "apiVersion": f"{NIM_GROUP}/{NIM_VERSION}",
        "kind": "NIMService",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels_of(name, place)},
        "spec": body,
    }


def nim_cache(image: str, name: str, place: ClusterPlace, profiles: Sequence[str] = (), size_gib: int = 50) -> Manifest:
    """A NIMCache: the operator downloads the weights of these profiles once, for all trials."""
    return {
        "apiVersion": f"{NIM_GROUP}/{NIM_VERSION}",
        "kind": "NIMCache",
        "metadata": {"name": name, "namespace": place.namespace, "labels": labels_of(name, place)},
        "spec": {
            "source": {
                "ngc": {
                    "modelPuller": image,
                    "pullSecret": place.pull_secrets[0] if place.pull_secrets else "",
                    "authSecret": place.auth_secret,
                    "model": {"profiles": list(profiles)},
                }
            },
            "storage": {"pvc": {"create": True, "size": f"{size_gib}Gi", "volumeAccessMode": "ReadWriteOnce"}},
        },
    }


def gpu_count(container: Container) -> int:
    """Number of GPUs to ask for; a cluster gives numbers of them, not indices.

    Raises:
        BadConfiguration: If the container asks for all.
    """
    if ALL_GPUS in container.gpus:
        raise BadConfiguration("Kubernetes needs a number of GPUs: name as many as the server shall have, not all")
    return len(container.gpus)


def _security(user: str) -> Manifest:
    name, _, group = user.partition(":")
    if not name.isdecimal() or not (group or name).isdecimal():
        raise BadConfiguration(f"user {user!r} is no number; Kubernetes takes numbers, such as 1000:1000")
    return {"runAsUser": int(name), "runAsGroup": int(group or name)}


def _pod_container(spec: LaunchSpec, container: Container, name: str, secret: str) -> Manifest:
    mounts = [
        {"name": f"volume-{number}", "mountPath": mount.target, "readOnly": mount.read_only}
        for number, mount in enumerate(container.mounts)
    ]
    if container.shm_size_bytes:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    mounts += [
        {"name": "files", "mountPath": str(path.absolute()), "subPath": key, "readOnly": True}
        for path, key in file_keys(spec).items()
    ]
    made: Manifest = {
        "name": "server",
        "image": container.image,
        "env": _variables(spec.environment),
        "ports": [{"containerPort": container.port + distance} for distance in spec.ports],
        "resources": {"limits": {GPU_RESOURCE: str(gpu_count(container))}} if container.gpus else {},
        "volumeMounts": mounts,
    }
    if secret:
        made["envFrom"] = [{"secretRef": {"name": secret}}]
    if container.keep_entrypoint:
        made["args"] = literal_words(spec.argv)
    else:
        made["command"] = literal_words(spec.argv)
    return made


def _volumes(spec: LaunchSpec, container: Container, name: str) -> list[Manifest]:
    volumes: list[Manifest] = [
        {
            "name": f"volume-{number}",
            **(
                {"hostPath": {"path": mount.source}}
                if mount.source.startswith("/")
                else {"persistentVolumeClaim": {"claimName": mount.source}}
            ),
        }
        for number, mount in enumerate(container.mounts)
    ]
    if container.shm_size_bytes:
        memory = {"medium": "Memory", "sizeLimit": str(container.shm_size_bytes)}
        volumes.append({"name": "shm", "emptyDir": memory})
    if spec.files:
        volumes.append({"name": "files", "configMap": {"name": name}})
    return volumes


def _nim_storage(container: Container, place: ClusterPlace, profile: str) -> Manifest:
    shared = {"sharedMemorySizeLimit": str(container.shm_size_bytes)} if container.shm_size_bytes else {}
    if place.nim_cache:
        return {"nimCache": {"name": place.nim_cache, "profile": profile}, **shared}
    claims = [mount.source for mount in container.mounts if not mount.source.startswith("/")]
    if not claims:
        raise BadConfiguration("a NIMService needs its weights somewhere: name a NIMCache, or mount a volume claim")
    return {"pvc": {"name": claims[0]}, **shared}


def _variables(values: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": literal(value)} for name, value in values.items()]


def literal_words(words: Sequence[str]) -> list[str]:
    """Words of a command as they reach the server."""
    return [literal(word) for word in words]


def literal(text: str) -> str:
    """A text that Kubernetes leaves as it is: in commands and variables it puts `$(NAME)` in place, and takes `$$` for `$`."""
    return text.replace("$", "$$")
