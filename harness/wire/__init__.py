"""Frames and messages between host and firmware; pure."""
