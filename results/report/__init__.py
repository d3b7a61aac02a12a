"""The report: one self-contained HTML page."""

from tinyhil.results.report.page import render_report
from tinyhil.results.report.view import BoardLimits

__all__ = ["BoardLimits", "render_report"]
