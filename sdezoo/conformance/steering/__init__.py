"""Laws of what steers: guides and optimizers."""
