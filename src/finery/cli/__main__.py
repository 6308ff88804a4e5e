"""`python -m finery.cli` is `finery`."""

from finery.cli import main

main()
