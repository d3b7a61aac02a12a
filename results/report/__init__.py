"""The report: one self-contained HTML page."""

from tinyhil.results.report.page import render_report
from tinyhil.results.report.search import Candidate, SearchTrace
from tinyhil.results.report.view import BoardLimits

__all__ = ["BoardLimits", "Candidate", "SearchTrace", "render_report"]
