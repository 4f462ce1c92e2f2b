"""Laws of `sdezoo.sampling`."""
