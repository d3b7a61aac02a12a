"""Records, store, comparison and report; knows nothing of hardware."""
