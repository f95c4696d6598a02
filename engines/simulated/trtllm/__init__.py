"""The TensorRT-LLM dialect: ``trtllm-serve``'s command line, YAML, texts, endpoints and metrics."""
