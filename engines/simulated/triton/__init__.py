"""The Triton dialect of the simulated engine: a model repository behind ``tritonserver``'s HTTP face."""
