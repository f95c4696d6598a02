"""The generator process: bytes and times, nothing else.

Nothing here may import more than small parts of the standard library: these modules are loaded in a process of their own that
must be sending within milliseconds and that does no JSON, no numerics and no drawing while it measures.
"""
