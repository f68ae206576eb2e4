"""A run's record in, a report out: page, Markdown, CSV and pictures. Imports neither torch nor optuna."""

from nas_kd.report.write import write_report

__all__ = ["write_report"]
