"""Proof on a real GPU with a server nobody here wrote (vLLM)."""
