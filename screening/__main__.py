"""`python -m screening` is `assay`, for whoever starts a command with a given interpreter."""

from screening.cli import main

main()
