"""Bridges between data: what is learned (`bridge_task`), the rounds of training (`rounds`), pairs of ends, and curves through snapshots."""
