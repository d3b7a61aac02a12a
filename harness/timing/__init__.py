"""Executed blocks become estimated cycles."""
