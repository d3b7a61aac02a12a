"""The command line's face of the harness: one module per family of commands."""
