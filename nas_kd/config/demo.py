"""The config of the demo: a full search on scikit-learn's handwritten digits."""

from pathlib import Path

PATH = Path(__file__).with_name("demo.toml")
