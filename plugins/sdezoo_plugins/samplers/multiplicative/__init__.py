"""Multiplicative samplers, for geometric Brownian motion."""
