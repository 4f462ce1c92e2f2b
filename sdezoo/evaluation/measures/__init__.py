"""Measures that compare samples with data, one module per idea."""
