"""Makes a report (page, Markdown, CSV, plots) from a run's record; imports neither torch nor optuna.

`content` builds the six sections as dataclasses: `summary`, `front_plots` with `plot_points`, `candidate_tables`,
`distillation_gains`, `search_history` and `methodology`. `render` turns them into files, through `templates/` and
`assets/`.
"""

from nas_kd.report.render import write_report

__all__ = ["write_report"]
