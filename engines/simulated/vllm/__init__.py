"""The vLLM dialect of the simulated engine: ``vllm serve`` with its flags, endpoints, metrics and failure texts."""
