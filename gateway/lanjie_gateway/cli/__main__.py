"""`python -m lanjie_gateway.cli` is `lanjie`."""

from lanjie_gateway.cli.app import main

main()
