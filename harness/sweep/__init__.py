"""Sweeps: networks × boards × engines × options, each measured once, whatever happens on the way."""
