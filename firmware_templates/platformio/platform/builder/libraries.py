"""Builds the packages of `lib_deps` with PlatformIO's own library builder, and says what came of them.

The project's programs.json holds {"libraries": {cc, cxx, ar, ranlib, flags}}. libraries.json answers
{"includes", "libraries", "packages"}: folders, archives that this run makes, and what was resolved.
"""

# ruff: noqa: F821  (SCons brings the two names in)
import json
from pathlib import Path

from platformio.package.manager.library import LibraryPackageManager
from SCons.Script import Default, Import

Import("env", "wanted")

env.Replace(CC=wanted["cc"], CXX=wanted["cxx"], AS=wanted["cc"], AR=wanted["ar"], RANLIB=wanted["ranlib"])
env.Append(
    CCFLAGS=wanted["flags"],
    ASFLAGS=[*wanted["flags"], "-x", "assembler-with-cpp"],
    CXXFLAGS=["-fno-exceptions", "-fno-rtti"],
)
project = env.ConfigureProjectLibBuilder()
archives = project.build()
storage = LibraryPackageManager(env.subst("$PROJECT_LIBDEPS_DIR/$PIOENV"))
own = [env.Dir(folder) for folder in project.get_include_dirs()]
said = {
    "includes": [str(d) for folder in project.env["CPPPATH"] if (d := env.Dir(folder)) not in own],
    "libraries": [str(node) for archive in archives for node in env.Flatten(archive)],
    "packages": [[pkg.metadata.name, str(pkg.metadata.version)] for pkg in storage.get_installed()],
}
Path(env.subst("$PROJECT_DIR"), "libraries.json").write_text(json.dumps(said), encoding="utf-8")
Default(archives)
