"""How a server gets to run: as a local process, or already running somewhere."""
