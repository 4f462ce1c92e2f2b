"""Samplers that solve the linear part of an affine process exactly."""
