"""`python -m nas_kd` is `nas-kd`."""

from nas_kd.cli import main

main()
