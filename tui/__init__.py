"""The screen: a view of one session, live or replayed. Knows the session and nothing else."""
