"""`python -m nas_kd` is `nas-kd`."""

from nas_kd.cli.app import main

main()
