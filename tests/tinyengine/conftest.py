"""Fixtures of the engine's tests."""

from __future__ import annotations

from engine_checks import run_c  # noqa: F401
