"""`python -m nas_kd.agent`: what `nas-kd device-agent` is where nothing but Python, NumPy and ONNX Runtime is."""

import sys

from nas_kd.agent.command import main

sys.exit(main(sys.argv[1:]))
