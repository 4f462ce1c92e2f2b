"""The noise: processes, what they can do, and the one source of random numbers."""
