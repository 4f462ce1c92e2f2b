"""Measurements of processes and samplers against torchsde and closed forms."""
