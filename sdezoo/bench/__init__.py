"""The benchmarks of `sdezoo bench`: speed, memory and network evaluations, as ratios to a reference measured in the same run."""
