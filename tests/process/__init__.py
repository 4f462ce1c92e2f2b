"""Laws of `sdezoo.process`."""
