"""tinyhil: what a tiny neural network really costs on a microcontroller, measured.

The floors, from the ground up: `tinyhil.results` (records, store, report), `tinyhil.harness`
(one network on one board), `tinyhil.nas` (the search that uses both). Imports go down only.
"""

__version__ = "0.1.0"
