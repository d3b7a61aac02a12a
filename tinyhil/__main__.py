"""`python -m tinyhil` is the same as `tinyhil`."""

from tinyhil.cli import main

main()
