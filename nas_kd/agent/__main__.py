"""`python -m nas_kd.agent`: the same as `nas-kd device-agent`, for machines without the CLI's dependencies."""

import sys

from nas_kd.agent.command import main

sys.exit(main(sys.argv[1:]))
