"""Processes whose noise is not normal: heavy tails, jumps, counts, shares."""
