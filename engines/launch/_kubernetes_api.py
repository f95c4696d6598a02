"""Talks to a Kubernetes API server: the few calls needed, and what its refusals mean."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import TYPE_CHECKING, Any

from engines.errors import CannotStart, EngineError, MissingProgram, NoRuntime, StartFailed
from engines.failure import Failure
from engines.launch.kubernetes_manifests import NIM_GROUP, NIM_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    import kubernetes

    from engines.launch.kubernetes_manifests import ClusterPlace, Manifest

CALL_TIMEOUT_S = 30
GONE = 404
EXPIRED, FORBIDDEN, INVALID, TAKEN = 401, 403, 422, 409

PLURALS = {"NIMService": "nimservices", "NIMCache": "nimcaches"}


class Cluster:
    """One namespace of a cluster. Every call is made in a thread; the client is blocking."""

    def __init__(self, place: ClusterPlace) -> None:
        """Connect by the kubeconfig (`KUBECONFIG`), or by the account of the pod this program runs in.

        Raises:
            MissingProgram: If the package `kubernetes` is not installed.
            NoRuntime: If there is no usable configuration.
        """
        try:
            import kubernetes
        except ImportError as error:
            text = "the package kubernetes is not installed; run: pip install 'trtune[kubernetes]'"
            raise MissingProgram(text) from error
        self.place = place
        self.configuration = _configuration(kubernetes, place.context)
        self._api = kubernetes.client.ApiClient(self.configuration)
        self._core = kubernetes.client.CoreV1Api(self._api)
        self._apps = kubernetes.client.AppsV1Api(self._api)
        self._custom = kubernetes.client.CustomObjectsApi(self._api)

    async def create(self, manifest: Manifest) -> None:
        """Make a resource.

        Raises:
            StartFailed: If the cluster refuses it.
            NoRuntime: If the cluster does not answer, or not to these credentials.
        """
        kind, namespace = manifest["kind"], self.place.namespace
        if kind in PLURALS:
            call = functools.partial(
                self._custom.create_namespaced_custom_object, NIM_GROUP, NIM_VERSION, namespace, PLURALS[kind]
            )
        else:
            call = functools.partial(self._calls(kind)[0], namespace)
        await self._call(call, manifest, what=f"create the {kind} {manifest['metadata']['name']}")

    async def delete(self, kind: str, name: str) -> None:
        """Delete a resource and what hangs on it; one that is gone is as wanted.

        Raises:
            StartFailed, NoRuntime: As `create`.
        """
        namespace, what = self.place.namespace, f"delete the {kind} {name}"
        if kind in PLURALS:
            call = functools.partial(
                self._custom.delete_namespaced_custom_object, NIM_GROUP, NIM_VERSION, namespace, PLURALS[kind], name
            )
            await self._call(call, what=what, missing_is_fine=True, propagation_policy="Foreground")
        else:
            call = functools.partial(self._calls(kind)[1], name, namespace)
            await self._call(call, what=what, missing_is_fine=True, propagation_policy="Foreground")

    async def exists(self, kind: str, name: str) -> bool:
        """Whether there is such a NIM Operator resource."""
        return await self._custom_resource(kind, name) is not None

    async def custom_state(self, kind: str, name: str) -> str:
        """`status.state` of a NIM Operator resource; empty while it has none or is gone."""
        told = await self._custom_resource(kind, name)
        status = told.get("status") if isinstance(told, dict) else None
        return str(status.get("state", "")) if isinstance(status, dict) else ""

    async def _custom_resource(self, kind: str, name: str) -> Any:
        call = functools.partial(
            self._custom.get_namespaced_custom_object, NIM_GROUP, NIM_VERSION, self.place.namespace, PLURALS[kind], name
        )
        return await self._call(call, what=f"read the {kind} {name}", missing_is_fine=True)

    async def pods(self, name: str) -> list[Manifest]:
        """The pods of a server, oldest first, as the API's JSON."""
        call = functools.partial(self._core.list_namespaced_pod, self.place.namespace, label_selector=f"app={name}")
        told = await self._call(call, what="list pods")
        items = told.get("items") if isinstance(told, dict) else None
        pods = [item for item in items or () if isinstance(item, dict) and isinstance(item.get("metadata"), dict)]
        return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))

    def follow_log(self, pod: str) -> Any:
        """The log of a pod as a response whose `stream()` gives bytes as they come. Blocking.

        Raises:
            kubernetes.client.ApiException: If it has no log yet.
        """
        core: Any = self._core
        return core.read_namespaced_pod_log(pod, self.place.namespace, follow=True, _preload_content=False)

    def _calls(self, kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """How a kind of resource is made and deleted."""
        calls: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
            "Deployment": (self._apps.create_namespaced_deployment, self._apps.delete_namespaced_deployment),
            "Service": (self._core.create_namespaced_service, self._core.delete_namespaced_service),
            "ConfigMap": (self._core.create_namespaced_config_map, self._core.delete_namespaced_config_map),
            "Secret": (self._core.create_namespaced_secret, self._core.delete_namespaced_secret),
            "Pod": (self._core.create_namespaced_pod, self._core.delete_namespaced_pod),
        }
        return calls[kind]

    async def _call(
        self, call: Callable[..., Any], *arguments: Any, what: str, missing_is_fine: bool = False, **named: Any
    ) -> Any:
        import kubernetes
        import urllib3

        try:
            return await asyncio.to_thread(_answer, call, *arguments, **named)
        except kubernetes.client.ApiException as error:
            if missing_is_fine and error.status == GONE:
                return None
            raise self._refusal(error, what) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            host = self.configuration.host
            raise NoRuntime(f"the cluster at {host} does not answer; is the kubeconfig's context right?") from error
        except ValueError as error:
            raise EngineError(f"the cluster's answer makes no sense, asked to {what}: {one_line(error)}") from error

    def _refusal(self, error: kubernetes.client.ApiException, what: str) -> EngineError:
        """Why the cluster refuses, in one line."""
        where = f"namespace {self.place.namespace!r}"
        if error.status == EXPIRED:
            return NoRuntime("the cluster refuses these credentials: they are wrong or have expired; log in again")
        if error.status == FORBIDDEN:
            text = f"this account may not {what} in {where}: ask for the role; {_message(error)}"
            return CannotStart(Failure("no_permission", text, infeasible=False))
        if error.status == GONE and "NIM" in what:
            text = f"cannot {what}: the cluster has no such resource; install NVIDIA's NIM Operator"
            return CannotStart(Failure("no_operator", text, infeasible=False))
        if error.status == GONE:
            text = f"cannot {what}: {_message(error)}; does {where} exist?"
            return CannotStart(Failure("no_namespace", text, infeasible=False))
        text = f"the cluster does not {what}: {_message(error)}"
        return StartFailed(Failure("refused", text, infeasible=False))


def _answer(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The JSON that a call is answered with.

    Not through the client's models: servers answer a delete with a Status where its models want the deleted thing.
    """
    response = call(*arguments, _preload_content=False, _request_timeout=CALL_TIMEOUT_S, **named)
    return json.loads(response.data)


def _configuration(kubernetes: Any, context: str) -> Any:
    from kubernetes.config import ConfigException

    configuration = kubernetes.client.Configuration()
    configuration.retries = False
    try:
        kubernetes.config.load_kube_config(context=context or None, client_configuration=configuration)
    except ConfigException as error:
        if context:
            raise NoRuntime(f"the kubeconfig cannot be used for context {context!r}: {one_line(error)}") from error
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            text = f"there is no usable kubeconfig ({one_line(error)}); set KUBECONFIG or log in to the cluster"
            raise NoRuntime(text) from error
    except Exception as error:  # the library checks little of the file before it uses it
        text = f"the kubeconfig cannot be read ({one_line(error)}); correct it, or set KUBECONFIG to another"
        raise NoRuntime(text) from error
    return configuration


def _message(error: kubernetes.client.ApiException) -> str:
    """The server's own words: `message` of its Status, else the reason phrase."""
    try:
        told = json.loads(error.body or "")
    except (TypeError, ValueError):
        return one_line(error.reason)
    return one_line(told.get("message", error.reason) if isinstance(told, dict) else error.reason)


def one_line(text: object) -> str:
    """The printable characters of a text, on one line of bounded length."""
    return " ".join("".join(filter(str.isprintable, str(text).replace("\n", " "))).split())[:300]
