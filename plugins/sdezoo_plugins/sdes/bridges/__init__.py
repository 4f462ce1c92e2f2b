"""Processes between two distributions of data."""
