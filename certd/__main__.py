"""``python -m certd``."""

from certd.cli.main import main

main()
