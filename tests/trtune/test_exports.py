"""Every form of export, read by the parser of those who will read it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format

from engines.errors import BadConfiguration
from engines.simulated.trtllm.arguments import TorchLlmArgs
from engines.simulated.trtllm.command_line import read_config
from sessions.errors import SessionError
from sessions.reader import SessionReader
from sessions.recorder import Recorder
from trtune.cli import run
from trtune.errors import UsageError
from trtune.exports.formats import FORMS
from trtune.exports.winner import Wishes

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
IMAGE = "registry.example/server:1.2"
PROFILE = "ab" * 32
OBJECTIVE = {"metric": "output_token_throughput", "direction": "maximize", "unit": "tokens/s"}

PLANS: dict[str, dict[str, Any]] = {
    "trtllm": {"name": "trtllm", "model": "meta/llama"},
    "vllm": {"name": "vllm", "model": "meta/llama", "environment": {"VLLM_LOGGING_LEVEL": "INFO"}},
    "sglang": {"name": "sglang", "model": "/models/llama"},
    "nim-1": {
        "name": "nim",
        "launch": "docker",
        "version": "1.8",
        "container": {"image": "nim/meta/llama:1.8.0", "gpus": ["0"], "mounts": ["/var/cache/nim:/opt/nim/.cache"]},
    },
    "nim-2": {"name": "nim", "launch": "docker", "container": {"image": "nim/meta/llama:2.0.4", "gpus": ["0", "1"]}},
}
PARAMS: dict[str, dict[str, Any]] = {
    "trtllm": {"tensor_parallel_size": 2, "max_batch_size": 64, "kv_cache_config.free_gpu_memory_fraction": 0.9},
    "vllm": {"tensor-parallel-size": 2, "max-num-seqs": 128, "enable-chunked-prefill": False},
    "sglang": {"tp-size": 2},
    "nim-1": {"NIM_ENABLE_KV_CACHE_REUSE": True},
    "nim-2": {"max-num-seqs": 128},
}


def session(path: Path, engine: Mapping[str, Any], params: dict[str, Any], **more: Any) -> Path:
    """A session with one finished trial."""
    plan = {"engine": dict(engine), **more.pop("plan", {})}
    facts = {"kind": "tune", "plan": plan, "objective": OBJECTIVE, "host": more.pop("host", {})}
    recorder = Recorder.create(path, facts)
    number = recorder.start_trial("baseline", params)
    recorder.update_trial(number, launch=more.pop("launch", {}))
    level = recorder.start_level(number, more.pop("load", "concurrency"), 48)
    result = {"output_token_throughput": {"avg": 1667.2}, "requests": {"avg": 300.0}}
    recorder.end_level(level, "valid", window_ns=(1, 2), result=result)
    recorder.end_trial(number, "complete", score=1667.2, feasible=True, result=result)
    recorder.close()
    return path


@pytest.fixture(params=PLANS)
def named(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Each engine's session."""
    name = str(request.param)
    return name, session(tmp_path / "run.trtune", PLANS[name], PARAMS[name])


def export(path: Path, form: str, wishes: Wishes | None = None) -> str:
    """Export for port 9000; servers whose plan names no image get one."""
    with SessionReader(path) as reader:
        if wishes is None:
            has_image = reader.meta()["plan"]["engine"].get("container")
            wishes = Wishes(image="" if has_image else IMAGE, port=9000)
        return FORMS[form].make(reader, None, wishes)


def image_of(name: str) -> str:
    container = PLANS[name].get("container")
    return IMAGE if container is None else str(container["image"])


def run_script(text: str, program: str, folder: Path) -> list[str]:
    """Run an exported script where `program` only says how it was called."""
    spy = folder / "bin" / program
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\0" "$word"; done\n')
    spy.chmod(0o755)
    path = f"{spy.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", text], cwd=folder, env={"PATH": path}, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_the_yaml_is_what_trtllm_serve_takes(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["trtllm"], PARAMS["trtllm"])
    file = tmp_path / "best.yaml"
    file.write_text(export(path, "config"))

    settings = read_config(file)

    assert settings["kv_cache_config"] == {"free_gpu_memory_fraction": 0.9}
    TorchLlmArgs.model_validate(
        {"model": "meta/llama", **settings}
    )  # as strict as the server: an unknown key is refused


def test_the_command_writes_its_file_and_starts_the_server(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["trtllm"], PARAMS["trtllm"])

    words = run_script(export(path, "command"), "trtllm-serve", tmp_path)

    assert words[:2] == ["serve", "meta/llama"]
    assert words[words.index("--port") + 1] == "9000"
    config = tmp_path / words[words.index("--config") + 1]
    assert yaml.safe_load(config.read_text())["max_batch_size"] == 64


def test_the_version_is_that_of_the_host_that_tuned(tmp_path: Path) -> None:
    host = {"packages": {"tensorrt-llm": "1.0.0"}}
    path = session(tmp_path / "run.trtune", PLANS["trtllm"], PARAMS["trtllm"], host=host)

    assert "--extra_llm_api_options trtllm-serve.yaml" in export(path, "command")  # 1.0 has no --config
    assert "return_perf_metrics" not in export(path, "config")  # nor this key, and refuses unknown ones


def test_vllm_and_sglang_are_commands(tmp_path: Path) -> None:
    vllm = export(session(tmp_path / "v.trtune", PLANS["vllm"], PARAMS["vllm"]), "command")
    sglang = export(session(tmp_path / "s.trtune", PLANS["sglang"], PARAMS["sglang"]), "command")

    assert "--no-enable-chunked-prefill" in vllm
    assert "export VLLM_LOGGING_LEVEL=INFO" in vllm
    assert "exec python3" in sglang
    assert "--tp-size 2" in sglang


def test_an_engine_is_built_before_it_is_served(tmp_path: Path) -> None:
    engine = {"name": "trtllm_engines", "model": "/models/llama", "version": "1.0.0"}
    path = session(tmp_path / "run.trtune", engine, {})
    for program in ("trtllm-build", "python3"):
        (tmp_path / program).write_text(
            '#!/bin/sh\nwhile [ "$1" != --output_dir ]; do shift; done; mkdir "$2"; echo x > "$2/made"\n'
        )
        (tmp_path / program).chmod(0o755)
    text = f"PATH={tmp_path}:$PATH\n{export(path, 'command')}"

    words = run_script(text, "trtllm-serve", tmp_path)

    assert (tmp_path / words[1] / "made").is_file()
    with pytest.raises(UsageError, match="builds an engine before it starts"):
        export(path, "docker")


def test_nim_1_is_set_by_variables(tmp_path: Path) -> None:
    text = export(session(tmp_path / "run.trtune", PLANS["nim-1"], PARAMS["nim-1"]), "env")

    variables = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    assert variables["NIM_ENABLE_KV_CACHE_REUSE"] == "1"
    assert "NGC_API_KEY" not in variables
    assert variables["NIM_SERVER_PORT"] == "9000"


def test_variables_say_which_settings_they_do_not_hold(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["nim-2"], PARAMS["nim-2"])

    assert "# no variables but flags, see --format command: max-num-seqs\n" in export(path, "env")


def test_the_number_of_gpus_that_is_asked_for_counts_more_than_the_plans(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["nim-2"], PARAMS["nim-2"])

    words = run_script(export(path, "docker", Wishes(gpus=4)), "docker", tmp_path)

    assert words[words.index("--gpus") + 1] == '"device=0,1,2,3"'


def test_the_docker_line_names_image_gpus_and_command(named: tuple[str, Path], tmp_path: Path) -> None:
    name, path = named

    words = run_script(export(path, "docker"), "docker", tmp_path)

    assert words[0] == "run"
    assert "--init" in words  # as it was measured: a server as process 1 would hear no SIGTERM
    assert image_of(name) in words
    assert words[words.index("--gpus") + 1] == ('"device=0"' if name == "nim-1" else '"device=0,1"')
    if name.startswith("nim"):
        assert "NGC_API_KEY" in words  # by name alone: Docker takes the value from the shell


def test_the_compose_file_meets_the_specification(named: tuple[str, Path]) -> None:
    name, path = named
    file = yaml.safe_load(export(path, "compose"))

    jsonschema.validate(file, json.loads((SCHEMAS / "compose-spec.json").read_text()))

    assert file["services"]["server"]["image"] == image_of(name)
    assert file["services"]["server"]["init"] is True


def test_the_manifests_meet_kubernetes_schemas(named: tuple[str, Path]) -> None:
    name, path = named
    documents = list(yaml.safe_load_all(export(path, "kubernetes")))

    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)

    kinds = [document["kind"] for document in documents]
    assert kinds == (["ConfigMap"] if name == "trtllm" else []) + ["Deployment", "Service"]
    server = documents[-2]["spec"]["template"]["spec"]["containers"][0]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == ("1" if name == "nim-1" else "2")
    assert server["readinessProbe"]["httpGet"]["port"] == 9000
    assert server["readinessProbe"]["timeoutSeconds"] > 1  # a busy server answers late
    assert all("namespace" not in document["metadata"] for document in documents)  # that of whoever applies it
    assert ("imagePullSecrets" in documents[-2]["spec"]["template"]["spec"]) == name.startswith("nim")


def test_kubernetes_is_told_the_place_of_the_plan(tmp_path: Path) -> None:
    cluster = {"namespace": "lab", "pull_secrets": ["ours"], "node_selector": {"gpu": "h200"}}
    path = session(tmp_path / "run.trtune", {**PLANS["nim-2"], "launch": "kubernetes", "cluster": cluster}, {})

    text = export(path, "kubernetes")

    deployment, service = yaml.safe_load_all(text)
    assert deployment["metadata"]["namespace"] == service["metadata"]["namespace"] == "lab"
    assert deployment["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "h200"}
    assert "docker-registry ours --namespace lab" in text


def test_the_nimservice_meets_the_operators_schema(tmp_path: Path) -> None:
    path = session(tmp_path / "run.trtune", PLANS["nim-2"], {**PARAMS["nim-2"], "NIM_MODEL_PROFILE": PROFILE})
    schemas = json.loads((SCHEMAS / "nim-operator.json").read_text())

    documents = list(yaml.safe_load_all(export(path, "nimservice")))

    for document in documents:
        jsonschema.validate(document, closed(schemas[document["kind"]]))
    assert [document["kind"] for document in documents] == ["NIMCache", "NIMService"]
    assert documents[1]["spec"]["storage"]["nimCache"]["name"] == documents[0]["metadata"]["name"]
    assert documents[1]["spec"]["storage"]["nimCache"]["profile"] == PROFILE
    assert documents[0]["spec"]["source"]["ngc"]["model"]["profiles"] == [PROFILE]


@pytest.mark.parametrize(
    ("name", "variable"), [("nim-1", "NIM_ENABLE_KV_CACHE_REUSE"), ("nim-2", "NIM_PASSTHROUGH_ARGS")]
)
def test_helm_values_name_image_key_gpus_and_settings(tmp_path: Path, name: str, variable: str) -> None:
    path = session(tmp_path / "run.trtune", PLANS[name], PARAMS[name])

    (values,) = yaml.safe_load_all(export(path, "helm"))

    variables = {entry["name"]: entry["value"] for entry in values["env"]}
    assert f"{values['image']['repository']}:{values['image']['tag']}" == image_of(name)
    assert values["model"]["ngcAPISecret"]
    assert values["model"]["openaiPort"] == 9000
    assert "NIM_SERVER_PORT" not in variables  # the chart sets it, and one name twice is trouble
    assert values["resources"]["limits"]["nvidia.com/gpu"] >= 1
    assert variable in variables
    assert "NGC_API_KEY" not in variables


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as the API server prunes them without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict):
        free = schema["properties"].keys() >= {"metadata", "spec"} or "x-kubernetes-preserve-unknown-fields" in schema
        inner.setdefault("additionalProperties", bool(free))
    return inner


def test_tritons_files_are_read_by_its_own_parser(tmp_path: Path) -> None:
    from tritonclient.grpc import model_config_pb2

    pbtxt = (
        'name: "m"\nbackend: "python"\nmax_batch_size: 64\n'
        'parameters { key: "trtune_settings" value { string_value: "{}" } }\n'
        'parameters { key: "trtune_repository" value { string_value: "/tmp/x" } }\n'
        'parameters { key: "trtune_source" value { string_value: "/home/somebody/models" } }\n'
        'parameters { key: "kept" value { string_value: "a \\"b\\"" } }\n'
    )
    files = {"repository/m/config.pbtxt": pbtxt, "repository/m/1/model.yaml": "max_batch_size: 64\n"}
    path = session(tmp_path / "run.trtune", {"name": "triton", "model": "/repo"}, {}, launch={"files": files})

    config = text_format.Parse(export(path, "config-pbtxt"), model_config_pb2.ModelConfig())

    assert (config.name, config.max_batch_size) == ("m", 64)
    assert {name: value.string_value for name, value in config.parameters.items()} == {"kept": 'a "b"'}
    assert yaml.safe_load(export(path, "model-yaml")) == {"max_batch_size": 64}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A session of Triton with a repository of two models on this host."""
    for name, backend in (("llm", "python"), ("other", "onnxruntime")):
        folder = tmp_path / "models" / name
        (folder / "1").mkdir(parents=True)
        (folder / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "{backend}"\n')
    (tmp_path / "models" / "llm" / "1" / "model.yaml").write_text("model: meta/llama\n")
    engine = {"name": "triton", "model": str(tmp_path / "models")}
    return session(tmp_path / "run.trtune", engine, {"max_batch_size": 32})


def test_tritons_repository_is_written_where_it_is_served_from(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()

    words = run_script(export(repository, "command"), "tritonserver", folder)

    served = folder / words[words.index("--model-repository") + 1]
    assert yaml.safe_load((served / "llm" / "1" / "model.yaml").read_text())["max_batch_size"] == 32
    assert 'name: "other"' in (served / "other" / "config.pbtxt").read_text()
    assert "trtune_" not in (served / "llm" / "config.pbtxt").read_text()


def test_tritons_repository_is_whole_in_containers(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()

    words = run_script(export(repository, "docker"), "docker", folder)
    compose = yaml.safe_load(export(repository, "compose"))

    files = {"llm/config.pbtxt", "llm/1/model.yaml", "other/config.pbtxt"}
    mounts = dict(word.split(":")[:2] for word in words if word.startswith("./"))
    assert set(mounts.values()) == {f"/etc/trtune/repository/{name}" for name in files}
    assert all((folder / source).is_file() for source in mounts)
    placed = {place["target"]: place["source"] for place in compose["services"]["server"]["configs"]}
    assert placed.keys() == set(mounts.values())
    other = compose["configs"][placed["/etc/trtune/repository/other/config.pbtxt"]]["content"]
    assert 'name: "other"' in other


def test_aiperf_is_told_the_load_of_the_winning_level(tmp_path: Path) -> None:
    workload = {"isl": 500, "osl": {"distribution": "normal", "mean": 64, "std": 8}, "seed": 7}
    path = session(tmp_path / "run.trtune", PLANS["trtllm"], {}, plan={"workload": workload})

    words = shlex.split(export(path, "aiperf"), comments=True)

    told = dict(pairwise(words))
    assert words[:2] == ["aiperf", "profile"]
    assert told["--concurrency"] == "48"
    assert told["--synthetic-input-tokens-mean"] == "500"
    assert told["--output-tokens-stddev"] == "8"
    assert told["--url"] == "http://127.0.0.1:9000"


def test_a_hostile_session_stays_data(tmp_path: Path) -> None:
    """A stranger's names reach the shell, YAML and Docker as texts."""
    hostile = "x'; touch pwned; $(touch pwned) `touch pwned` ${HOME}\n# "
    path = session(tmp_path / "run.trtune", {"name": "trtllm", "model": hostile}, PARAMS["trtllm"])

    words = run_script(export(path, "docker"), "docker", tmp_path)
    file = yaml.safe_load(export(path, "compose"))

    assert hostile in words
    assert not (tmp_path / "pwned").exists()
    assert file["services"]["server"]["command"][1] == hostile.replace("$", "$$")


@pytest.mark.parametrize("size", [10**9, float("inf"), -4, "2; id"])
def test_a_strangers_parallelism_is_refused(tmp_path: Path, size: object) -> None:
    path = session(tmp_path / "run.trtune", PLANS["trtllm"], {"tensor_parallel_size": size})

    for form in ("docker", "kubernetes", "slurm"):
        with pytest.raises((BadConfiguration, UsageError), match="tensor_parallel_size"):
            export(path, form)
    with pytest.raises(UsageError, match="1000000000 GPUs are more than"):
        export(session(tmp_path / "b.trtune", PLANS["vllm"], {}), "docker", Wishes(image=IMAGE, gpus=10**9))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_no_escape_sequences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    path = session(tmp_path / "run.trtune", {**PLANS["vllm"], "model": "m\x1b[2Jodel"}, {})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)

    assert run(["export", str(path), "--format", "command"]) == 0

    assert ("\x1b" in capsys.readouterr().out) != terminal


def test_compose_and_kubernetes_put_nothing_into_a_strangers_texts(tmp_path: Path) -> None:
    model = "/models/$(HF_TOKEN)/${HOME}"
    path = session(tmp_path / "run.trtune", {**PLANS["vllm"], "model": model, "environment": {"A": "$(HF_TOKEN)"}}, {})

    server = yaml.safe_load(export(path, "compose"))["services"]["server"]
    *_, deployment, _ = yaml.safe_load_all(export(path, "kubernetes"))

    kept = model.replace("$", "$$")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert server["volumes"] == [f"{kept}:{kept}:ro"]
    assert kept in container["command"]
    assert container["env"] == [{"name": "A", "value": "$$(HF_TOKEN)"}]


def test_a_simulated_winner_says_so(tmp_path: Path) -> None:
    engine = {**PLANS["trtllm"], "command": ["{python}", "-m", "engines.simulated"], "arguments": ["--sim-gpu", "h100"]}
    path = session(tmp_path / "run.trtune", engine, PARAMS["trtllm"])

    text = export(path, "command")

    assert "SIMULATED" in text
    assert "exec trtllm-serve serve" in text
    assert "--sim-gpu" not in text


@pytest.mark.parametrize(
    ("engine", "form", "error", "told"),
    [
        (PLANS["trtllm"], "docker", UsageError, "--image nvidia/tensorrt-llm/release:VERSION"),
        (PLANS["vllm"], "config", UsageError, "no configuration file; try --format command"),
        (PLANS["vllm"], "nimservice", UsageError, "is no NIM"),
        (PLANS["vllm"], "config-pbtxt", UsageError, r"without a config.pbtxt"),
        ({"name": "openai", "launch": "attach", "url": "http://x"}, "command", UsageError, "started by someone else"),
        ({"name": "nonsense"}, "command", BadConfiguration, "engine 'nonsense' is unknown"),
        ({"name": 5}, "command", SessionError, "plan cannot be read"),
    ],
)
def test_what_cannot_be_exported_is_said(
    tmp_path: Path, engine: dict[str, Any], form: str, error: type[Exception], told: str
) -> None:
    path = session(tmp_path / "run.trtune", engine, {})

    with pytest.raises(error, match=told):
        export(path, form, Wishes())
