"""The work itself: load, trials and the search."""
