"""The quality gate: does an altered model still answer like the unaltered one?"""
