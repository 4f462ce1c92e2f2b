"""Sampling: time grids, the base class of samplers with its one loop, guidance and likelihood."""
