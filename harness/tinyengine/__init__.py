"""TinyEngine: graph passes, memory plan, specialised C."""
