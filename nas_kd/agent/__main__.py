"""`python -m nas_kd.agent`: what `nas-kd device-agent` is where there is little but Python, NumPy and ONNX Runtime."""

import sys

from nas_kd.agent.command import main

sys.exit(main(sys.argv[1:]))
