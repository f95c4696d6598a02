"""Trials side by side: on disjoint GPUs of one host, or on the nodes of a Ray cluster. Nothing here schedules between hosts."""
