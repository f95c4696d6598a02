"""The search: which configuration to try next, and which one won."""
