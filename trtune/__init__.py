"""trtune: see what an LLM inference server is doing, and find the settings that serve your workload best."""

__version__ = "0.1.0"
