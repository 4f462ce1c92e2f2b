"""Laws of `sdezoo.learning`."""
