"""Stands for TensorRT-LLM's LLM API model: says the words of its prompt again, and has the C++ backend's metric families."""

import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.settings = Path(args["model_repository"], args["model_version"], "model.yaml").read_text(encoding="utf-8")
        if "max_batch_size: 13\n" in self.settings:
            raise RuntimeError("Executor creation failed due to insufficient GPU memory.")
        family = pb_utils.MetricFamily(
            name="nv_trt_llm_request_metrics", description="TRT LLM request metrics", kind=pb_utils.MetricFamily.GAUGE
        )
        labels = {"model": "tensorrt_llm", "version": "1"}
        self.families = [family]
        self.gauges = {}
        for kind, value in (("active", 3), ("max", 8), ("scheduled", 2), ("context", 1), ("waiting", 1)):
            self.gauges[kind] = family.Metric(labels={**labels, "request_type": kind})
            self.gauges[kind].set(value)

    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)[0].decode()
            wanted = pb_utils.get_input_tensor_by_name(request, "sampling_param_max_tokens")
            count = int(wanted.as_numpy().reshape(-1)[0]) if wanted is not None else 4
            sender = request.get_response_sender()
            for word in (text.split() * count)[:count]:
                tensor = pb_utils.Tensor("text_output", np.array([word.encode()], dtype=np.object_))
                sender.send(pb_utils.InferenceResponse([tensor]))
                time.sleep(0.005)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
