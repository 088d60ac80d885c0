"""`python -m recloop`, and so `torchrun -m recloop train MODEL`."""

from recloop.cli import main

main()
