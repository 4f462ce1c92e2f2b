"""Verification: measure processes and samplers against torchsde, closed forms and other libraries."""
