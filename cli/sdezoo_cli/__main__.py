"""`python -P -m sdezoo_cli` is `sdezoo`. Without `-P`, Python imports modules of the working folder first."""

from sdezoo_cli.app import main

main()
