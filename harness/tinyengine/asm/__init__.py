"""Generated inner loops for Armv7E-M, each with a plain C twin that reads the same packed data."""
