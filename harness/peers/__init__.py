"""Adapters of the other engines."""
