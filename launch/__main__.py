"""`python -m launch` is `actsearch`."""

from .cli import main

main()
