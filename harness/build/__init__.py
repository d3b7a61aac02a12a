"""Sources become firmware, through PlatformIO."""
