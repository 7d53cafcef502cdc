"""`python -m gateway.cli`: the same as the command `sealgate`."""

from gateway.cli import main

main()
