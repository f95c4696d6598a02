"""Servers in a Kubernetes cluster: what the API server is asked for, and what its answers mean."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import BadConfiguration, EngineError, StartFailed, Unreachable
from engines.failure import FailureRule
from engines.launch.container import Container, Mount
from engines.launch.kubernetes import KubernetesLauncher, pod_state
from engines.launch.kubernetes_manifests import ClusterPlace, nim_cache
from engines.launch.ports import free_port, require_free, split_url
from engines.launch.spec import LaunchSpec

from .fake_kubernetes_api import FakeCluster

pytest.importorskip("kubernetes")

OUT_OF_MEMORY = FailureRule("out_of_memory", re.compile("KV cache full"), "no memory: lower the batch", ("batch",))
PLACE = ClusterPlace(namespace="lab")
STATUS_KEYS = (
    "containerStatuses", "state", "lastState", "terminated", "waiting", "reason", "message", "exitCode", "restartCount",
    "phase", "conditions", "type", "status",
)  # fmt: skip
CONTAINER = Container("server:1", gpus=("0", "1"), network="bridge", port=8000)


def write_kubeconfig(path: Path, server: str) -> None:
    named = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}))


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCluster]:
    """A fake cluster, with the kubeconfig pointing to it."""
    fake = FakeCluster()
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.health_port = runner.addresses[0][1]
    config = tmp_path / "kubeconfig"
    write_kubeconfig(config, f"http://127.0.0.1:{fake.health_port}")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    yield fake
    for pod in fake.pods:
        pod.ended.set()
    await runner.cleanup()


def spec_for(container: Container | None = CONTAINER, files: dict[Path, str] | None = None) -> LaunchSpec:
    return LaunchSpec(
        argv=("serve", "--port", "8000"),
        url=f"http://127.0.0.1:{free_port()}",
        ready_path="/v1/health",
        environment={"MODE": "fast"},
        files=files or {},
        failures=(OUT_OF_MEMORY,),
        inherit=("NGC_API_KEY",),
        container=container,
    )


async def test_a_server_is_a_deployment_with_a_service(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NGC_API_KEY", "hunter2")
    container = Container(
        "server:1",
        gpus=("0", "1"),
        mounts=(Mount("models", "/opt/models", read_only=True), Mount("/data", "/data")),
        network="bridge",
        port=8000,
        shm_size_bytes=2**30,
        user="1000:2000",
    )
    place = ClusterPlace("lab", pull_secrets=("pull",), node_selector={"gpu": "h200"}, labels={"team": "a"})

    server = await KubernetesLauncher(place).start(
        spec_for(container, {tmp_path / "config.yaml": "a: 1\n"}), lambda _: None
    )

    assert cluster.kinds == ["Secret", "ConfigMap", "Deployment", "Service"]
    made = cluster.only("Deployment")
    name = made["metadata"]["name"]
    pod = made["spec"]["template"]["spec"]
    (main,) = pod["containers"]
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "trtune"
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["spec"]["strategy"] == {"type": "Recreate"}
    assert main["command"] == ["serve", "--port", "8000"]
    assert main["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
    assert main["env"] == [{"name": "MODE", "value": "fast"}]
    assert main["envFrom"] == [{"secretRef": {"name": name}}]
    assert {mount["mountPath"] for mount in main["volumeMounts"]} == {
        "/opt/models", "/data", "/dev/shm", str(tmp_path / "config.yaml"),
    }  # fmt: skip
    assert pod["securityContext"] == {"runAsUser": 1000, "runAsGroup": 2000}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["nodeSelector"] == {"gpu": "h200"}
    assert cluster.only("ConfigMap")["data"] == {"config.yaml": "a: 1\n"}
    (mounted,) = (mount for mount in main["volumeMounts"] if mount["name"] == "files")
    assert (mounted["mountPath"], mounted["subPath"]) == (str(tmp_path / "config.yaml"), "config.yaml")
    assert cluster.only("Service")["spec"]["ports"][0]["targetPort"] == 8000
    assert "hunter2" not in json.dumps(made)
    assert cluster.only("Secret")["stringData"] == {"NGC_API_KEY": "hunter2"}
    await server.stop()


async def test_files_of_one_name_in_several_folders_are_all_there(cluster: FakeCluster, tmp_path: Path) -> None:
    files = {tmp_path / "ensemble" / "config.pbtxt": "a", tmp_path / "tensorrt_llm" / "config.pbtxt": "b"}

    server = await KubernetesLauncher(PLACE).start(spec_for(files=files), lambda _: None)

    data = cluster.only("ConfigMap")["data"]
    (main,) = cluster.only("Deployment")["spec"]["template"]["spec"]["containers"]
    assert {mount["mountPath"]: data[mount["subPath"]] for mount in main["volumeMounts"]} == {
        str(path): text for path, text in files.items()
    }
    await server.stop()


async def test_all_ports_of_a_server_are_forwarded(cluster: FakeCluster) -> None:
    spec = replace(spec_for(), url=f"http://127.0.0.1:{free_port(beside=(0, 2))}", ports=(0, 2))

    server = await KubernetesLauncher(PLACE).start(spec, lambda _: None)

    assert [port["targetPort"] for port in cluster.only("Service")["spec"]["ports"]] == [8000, 8002]
    for port in (split_url(spec.url)[1], split_url(spec.url)[1] + 2):
        with pytest.raises(StartFailed):
            require_free(f"http://127.0.0.1:{port}")
    await server.stop()
    require_free(f"http://127.0.0.1:{split_url(spec.url)[1] + 2}")


async def test_a_forwarded_port_reaches_the_pod(cluster: FakeCluster, http: aiohttp.ClientSession) -> None:
    spec = spec_for()
    server = await KubernetesLauncher(PLACE).start(spec, lambda _: None)

    await server.wait_ready(http, 30)

    assert server.url == spec.url
    assert server.pids == ()
    assert await server.check(http) is None
    await server.stop()


async def test_inside_the_cluster_the_service_is_asked(cluster: FakeCluster) -> None:
    server = await KubernetesLauncher(ClusterPlace("lab", port_forward=False)).start(spec_for(), lambda _: None)

    name = cluster.only("Service")["metadata"]["name"]
    assert server.url == f"http://{name}.lab.svc:8000"
    await server.stop()


async def test_stopping_deletes_all_that_was_made(
    cluster: FakeCluster, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGC_API_KEY", "hunter2")
    cluster.resources["Service", "of-somebody-else"] = {}
    server = await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)
    await server.wait_ready(http, 30)

    await server.stop()

    assert list(cluster.resources) == [("Service", "of-somebody-else")]
    assert cluster.pods == []


async def test_the_log_is_kept(cluster: FakeCluster, http: aiohttp.ClientSession) -> None:
    cluster.log_lines = ("one", "two")
    heard: list[str] = []
    server = await KubernetesLauncher(PLACE).start(spec_for(), heard.append)
    await server.wait_ready(http, 30)

    await server.stop()

    assert heard == ["one", "two"]


async def test_a_telling_line_ends_the_wait(cluster: FakeCluster, http: aiohttp.ClientSession) -> None:
    cluster.log_lines, cluster.health_status = ("KV cache full",), 503
    server = await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)

    with pytest.raises(StartFailed) as raised:
        await server.wait_ready(http, 60)

    assert raised.value.failure.kind == "out_of_memory"
    assert cluster.pods == []


async def test_an_image_that_cannot_be_pulled_ends_the_wait(cluster: FakeCluster, http: aiohttp.ClientSession) -> None:
    cluster.health_status = 503
    server = await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)
    cluster.pods[0].container = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}

    with pytest.raises(StartFailed, match="ImagePullBackOff: no such image") as raised:
        await server.wait_ready(http, 60)

    assert not raised.value.failure.infeasible


async def test_a_pod_without_a_node_is_said_when_time_is_up(cluster: FakeCluster, http: aiohttp.ClientSession) -> None:
    cluster.health_status = 503
    server = await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)
    unplaced = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: insufficient nvidia.com/gpu"}
    cluster.pods[0].conditions = [unplaced]

    with pytest.raises(StartFailed, match=r"not ready within 1 s \(no node takes it: 0/3 nodes"):
        await server.wait_ready(http, 1)

    assert cluster.pods == []


async def test_a_nim_is_left_to_its_operator(cluster: FakeCluster) -> None:
    place = ClusterPlace("lab", nim_operator=True, nim_cache="weights", auth_secret="ngc", pull_secrets=("pull",))
    cluster.resources["NIMCache", "weights"] = {"status": {"state": "Ready"}}
    container = Container("registry/nim/llama:2.0.5", gpus=("0",), network="bridge", port=8000, keep_entrypoint=True)
    spec = LaunchSpec(
        argv=("nim-serve", "--max-num-seqs", "64"),
        url=f"http://127.0.0.1:{free_port()}",
        ready_path="/v1/health",
        environment={"NIM_MODEL_PROFILE": "p1"},
        container=container,
    )

    server = await KubernetesLauncher(place).start(spec, lambda _: None)

    assert cluster.kinds == ["NIMService"]
    made = cluster.only("NIMService")
    assert made["apiVersion"] == "apps.nvidia.com/v1alpha1"
    assert made["spec"]["image"]["repository"] == "registry/nim/llama"
    assert made["spec"]["image"]["tag"] == "2.0.5"
    assert made["spec"]["authSecret"] == "ngc"
    assert made["spec"]["args"] == ["nim-serve", "--max-num-seqs", "64"]
    assert made["spec"]["storage"] == {"nimCache": {"name": "weights", "profile": "p1"}}
    assert made["spec"]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert made["spec"]["expose"]["service"]["port"] == 8000
    await server.stop()
    assert list(cluster.resources) == [("NIMCache", "weights")]


async def test_a_nim_that_failed_ends_the_wait(cluster: FakeCluster, http: aiohttp.ClientSession) -> None:
    cluster.states, cluster.health_status = {"NIMService": "Failed"}, 503
    place = ClusterPlace("lab", nim_operator=True, nim_cache="weights", auth_secret="ngc")
    cluster.resources["NIMCache", "weights"] = {"status": {"state": "Ready"}}
    server = await KubernetesLauncher(place).start(spec_for(), lambda _: None)

    with pytest.raises(StartFailed, match=r"NIMService .* failed"):
        await server.wait_ready(http, 60)

    assert list(cluster.resources) == [("NIMCache", "weights")]


@pytest.mark.parametrize(("state", "text"), [("Failed", "failed"), ("InProgress", "is InProgress after 0.1 s")])
async def test_weights_that_do_not_come_are_said(cluster: FakeCluster, state: str, text: str) -> None:
    cluster.states = {"NIMCache": state}

    with pytest.raises(StartFailed, match=text):
        await KubernetesLauncher(ClusterPlace("lab", auth_secret="ngc")).ensure_cache(
            "weights", "registry/nim:2", ("p1",), timeout_s=0.1
        )


async def test_weights_are_fetched_once(cluster: FakeCluster) -> None:
    cluster.states = {"NIMCache": "Ready"}
    launcher = KubernetesLauncher(ClusterPlace("lab", auth_secret="ngc"))

    await launcher.ensure_cache("weights", "registry/nim:2", ("p1",), timeout_s=30)
    await launcher.ensure_cache("weights", "registry/nim:2", ("p1",), timeout_s=30)

    assert cluster.kinds == ["NIMCache"]
    assert cluster.only("NIMCache")["spec"]["source"]["ngc"]["model"] == {"profiles": ["p1"]}


def test_a_cache_says_where_its_weights_come_from() -> None:
    made = nim_cache("registry/nim:2", "weights", ClusterPlace("lab", auth_secret="ngc", pull_secrets=("pull",)))

    assert made["spec"]["source"]["ngc"]["modelPuller"] == "registry/nim:2"
    assert made["spec"]["source"]["ngc"]["authSecret"] == "ngc"
    assert made["spec"]["storage"]["pvc"]["size"] == "50Gi"


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("Service", 403, "this account may not create the Service .* ask for the role"),
        ("Deployment", 422, "does not create the Deployment .*: bad spec"),
        ("Deployment", 409, "does not create the Deployment"),
    ],
)
async def test_a_refusal_is_one_line_and_leaves_nothing(
    cluster: FakeCluster, kind: str, status: int, text: str
) -> None:
    cluster.deny = {kind: (status, "bad spec")}

    with pytest.raises(StartFailed, match=text) as raised:
        await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)

    assert not raised.value.failure.infeasible
    assert "\n" not in str(raised.value)
    assert cluster.resources == {}


async def test_a_missing_operator_is_said(cluster: FakeCluster) -> None:
    cluster.deny = {"NIMService": (404, "page not found")}
    place = ClusterPlace("lab", nim_operator=True, nim_cache="weights", auth_secret="ngc")
    cluster.resources["NIMCache", "weights"] = {"status": {"state": "Ready"}}

    with pytest.raises(StartFailed, match="install NVIDIA's NIM Operator"):
        await KubernetesLauncher(place).start(spec_for(), lambda _: None)


async def test_a_missing_namespace_is_said(cluster: FakeCluster) -> None:
    with pytest.raises(StartFailed, match="does namespace 'elsewhere' exist"):
        await KubernetesLauncher(ClusterPlace("elsewhere")).start(spec_for(), lambda _: None)


async def test_expired_credentials_are_said(cluster: FakeCluster) -> None:
    cluster.unauthorised = True

    with pytest.raises(Unreachable, match="wrong or have expired; log in again"):
        await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)


@pytest.mark.parametrize("text", ["{{{{", "- a", "contexts: 5", "a: \0"])
async def test_a_broken_kubeconfig_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from kubernetes.config import kube_config

    (tmp_path / "config").write_text(text)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))

    with pytest.raises(Unreachable, match="kubeconfig"):
        await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)


async def test_an_unknown_context_is_said(cluster: FakeCluster) -> None:
    with pytest.raises(Unreachable, match="context 'nowhere'"):
        await KubernetesLauncher(ClusterPlace("lab", context="nowhere")).start(spec_for(), lambda _: None)


async def test_a_cluster_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "kubeconfig"
    write_kubeconfig(config, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))

    with pytest.raises(Unreachable, match="does not answer; is the kubeconfig's context right"):
        await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)


async def test_no_kubeconfig_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))

    with pytest.raises(EngineError, match="set KUBECONFIG or log in"):
        await KubernetesLauncher(PLACE).start(spec_for(), lambda _: None)


@pytest.mark.parametrize(
    ("container", "place", "text"),
    [
        (None, PLACE, "needs an image"),
        (Container("server:1", gpus=("0",)), PLACE, "network to bridge"),
        (Container("server:1", network="bridge"), PLACE, "number of GPUs"),
        (Container("server:1", gpus=("0",), network="bridge", user="alice"), PLACE, "no number"),
        (CONTAINER, ClusterPlace("lab", nim_operator=True), "NGC key"),
        (CONTAINER, ClusterPlace("lab", nim_operator=True, auth_secret="ngc"), "NIMCache, or mount a volume claim"),
    ],
)
async def test_what_a_cluster_cannot_run_is_refused_before_anything_is_made(
    cluster: FakeCluster, container: Container | None, place: ClusterPlace, text: str
) -> None:
    with pytest.raises(BadConfiguration, match=text):
        await KubernetesLauncher(place).start(spec_for(container), lambda _: None)

    assert cluster.created == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(STATUS_KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(st.fixed_dictionaries({"status": JSON}))
def test_any_status_can_be_read(pod: dict[str, Any]) -> None:
    state = pod_state(pod)

    assert "\n" not in state.detail
    assert state.exit_code is None or state.ended


@pytest.mark.parametrize(
    ("container", "ended", "code"),
    [
        ({"state": {"running": {}}, "restartCount": 0}, False, None),
        ({"state": {"terminated": {"exitCode": 3, "reason": "Error"}}}, True, 3),
        ({"state": {"running": {}}, "restartCount": 1, "lastState": {"terminated": {"exitCode": 137}}}, True, 137),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, False, None),
    ],
)
def test_a_restart_counts_as_an_end(container: dict[str, Any], ended: bool, code: int | None) -> None:
    state = pod_state({"status": {"phase": "Running", "containerStatuses": [container]}})

    assert (state.ended, state.exit_code) == (ended, code)
