"""What runs firmware: emulators, boards, the host."""
