"""Widgets of the screen, one per module. Each draws a snapshot and knows nothing of files or servers."""
