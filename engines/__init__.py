"""Servers: how each one is started, configured, read and stopped. Knows nothing of the rest of trtune."""
