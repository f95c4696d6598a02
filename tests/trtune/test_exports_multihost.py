"""Servers over several hosts in Kubernetes: what is written meets the schemas of those who read it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.trtune.test_exports import IMAGE, PARAMS, PLANS, SCHEMAS, closed, export, session
from trtune.errors import UsageError
from trtune.exports.winner import Wishes


def test_vllm_over_two_hosts_is_a_leader_that_serves_and_a_worker_that_joins(tmp_path: Path) -> None:
    params = {**PARAMS["vllm"], "tensor-parallel-size": 8, "pipeline-parallel-size": 2}
    path = session(tmp_path / "run.trtune", {**PLANS["vllm"], "model": "/models/$(A)/llama"}, params)

    group, service = yaml.safe_load_all(export(path, "leaderworkerset", Wishes(image=IMAGE, port=9000)))

    template = group["spec"]["leaderWorkerTemplate"]
    assert (group["apiVersion"], group["kind"]) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
    assert template["size"] == 2
    for part in (template["leaderTemplate"], template["workerTemplate"]):
        labelled = {"metadata": {"labels": {"app": "x"}}, "spec": part["spec"]}
        kubernetes_validate.validate(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "x"},
                "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": labelled},
            },
            "1.31",
            strict=True,
        )
        (container,) = part["spec"]["containers"]
        assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
        assert container["volumeMounts"][0]["mountPath"] == "/models/$(A)/llama"
    (leader,) = template["leaderTemplate"]["spec"]["containers"]
    (worker,) = template["workerTemplate"]["spec"]["containers"]
    assert "--pipeline-parallel-size 2" in leader["command"][2] or "--pipeline-parallel-size=2" in leader["command"][2]
    assert worker["envFrom"] == leader["envFrom"] == [{"secretRef": {"name": "llama-keys"}}]
    assert "vllm" not in worker["command"][2].split("multi-node-serving.sh")[1]
    assert "vllm serve '/models/$$(A)/llama'" in leader["command"][2]
    assert service["spec"]["selector"].items() <= template["leaderTemplate"]["metadata"]["labels"].items()


def test_a_nim_larger_than_a_node_spans_several(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["nim-2"], PARAMS["nim-2"])
    schemas = json.loads((SCHEMAS / "nim-operator.json").read_text())

    documents = list(yaml.safe_load_all(export(path, "nimservice", Wishes(port=9000, gpus=16, gpus_per_node=8))))

    nim = documents[-1]
    jsonschema.validate(nim, closed(schemas["NIMService"]))
    assert nim["spec"]["multiNode"]["parallelism"] == {"tensor": 8, "pipeline": 2}
    assert nim["spec"]["multiNode"]["ray"] == {"rayPort": 6379}
    assert nim["spec"]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {"name": "NIM_JSONL_LOGGING", "value": "0"} in nim["spec"]["env"]
    assert documents[0]["spec"]["storage"]["pvc"]["volumeAccessMode"] == "ReadWriteMany"


def test_a_nim_whose_tensors_span_nodes_is_not_spread_otherwise_than_measured(tmp_path: Path) -> None:
    container = {"image": "nim/meta/llama:2.0.4", "gpus": ["all"]}
    engine = {"name": "nim", "launch": "docker", "container": container}
    path = session(tmp_path / "run.trtune", engine, {"tensor-parallel-size": 16})

    with pytest.raises(UsageError, match="would run tensor-parallel-size 8, and the trial ran 16"):
        export(path, "nimservice", Wishes(gpus_per_node=8))


@pytest.mark.parametrize(("name", "form"), [("trtllm", "leaderworkerset"), ("sglang", "leaderworkerset")])
def test_who_is_started_otherwise_is_told_how(tmp_path: Path, name: str, form: str) -> None:
    path = session(tmp_path / "run.trtune", PLANS[name], PARAMS[name])

    with pytest.raises(UsageError, match="over several hosts: --format slurm"):
        export(path, form)


def test_gpus_that_do_not_fill_nodes_are_refused(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["nim-2"], PARAMS["nim-2"])

    with pytest.raises(UsageError, match="12 GPUs do not divide evenly"):
        export(path, "nimservice", Wishes(gpus=12, gpus_per_node=8))
