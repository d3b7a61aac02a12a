"""How hypothesis draws its examples in this suite: the same ones on each run, unless told to explore.

`pytest --hypothesis-profile=explore` draws new ones each time and keeps what failed; whoever changes a
pure core runs that.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("repeatable")
