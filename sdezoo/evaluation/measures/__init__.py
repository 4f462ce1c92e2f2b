"""Measures of samples beside data, one module for each idea."""
