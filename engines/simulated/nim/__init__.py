"""The NIM dialect of the simulated engine: 1.x with settings in variables, 2.x as a proxy before vLLM."""
