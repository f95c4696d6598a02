"""Load: requests sent on schedule, and the exact time of every token that comes back."""
