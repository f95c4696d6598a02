"""The session: one file that holds everything that happened, and the ways to read it."""
