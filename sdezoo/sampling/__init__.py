"""The way back: time grids, and the one loop that every sampler shares."""
