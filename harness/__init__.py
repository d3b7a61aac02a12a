"""Measure one network on one board."""
