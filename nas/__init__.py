"""The search that has the harness in its loop."""
