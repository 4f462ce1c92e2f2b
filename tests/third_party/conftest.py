"""The distribution in here brings its own tests, which run where it is installed: `test_third_party.py` sees to that."""

collect_ignore = ["sdezoo-hyperbolic"]
