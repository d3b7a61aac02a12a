"""Numbers from elsewhere, for the comparison when no peer is at hand: published, or measured earlier.

They are never stored among the measurements, never gated and never ratioed against them.
"""

from tinyhil.results.reference.loader import Reference, load_references, published_latencies, references_for

__all__ = ["Reference", "load_references", "published_latencies", "references_for"]
