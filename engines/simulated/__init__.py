"""A pretend inference server with a real HTTP face; every number of it is simulated."""
