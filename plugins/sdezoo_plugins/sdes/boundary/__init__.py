"""Processes that live within a boundary: their noise dies there, or they are turned back."""
