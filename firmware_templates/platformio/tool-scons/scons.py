"""The entry point that PlatformIO calls in its tool-scons package; runs the installed SCons."""

import sys

try:
    from SCons.Script.Main import main
except ImportError:
    sys.exit(f"SCons is not installed for {sys.executable}: pip install 'SCons==4.11.1'")

if __name__ == "__main__":
    sys.exit(main())
