"""Samplers of any SDE: they integrate its reverse equation or its probability flow."""
