"""`python -m sdezoo_cli` is `sdezoo`."""

from sdezoo_cli.app import main

main()
