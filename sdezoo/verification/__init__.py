"""Verification: measure processes and samplers against torchsde and closed forms."""
