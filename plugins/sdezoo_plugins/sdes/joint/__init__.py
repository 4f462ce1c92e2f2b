"""Processes whose noise couples entries, adds variables to the data, or joins other processes."""
