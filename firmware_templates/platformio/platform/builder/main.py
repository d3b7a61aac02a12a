"""Runs the steps of the project's programs.json: all programs in one SCons run.

programs.json is written by tinyhil: {"steps": [{target, inputs, command, log}]}. The commands are
complete, so that nothing is decided here: SCons brings the order and the parallel run, and goes on
with the other programs when one fails (-k). What a tool says goes into the log of its program, not
into one stream that nobody can take apart. {"libraries": ...} instead of steps asks for the packages of
`lib_deps`, see libraries.py.
"""

import json
import subprocess
from pathlib import Path

from SCons.Script import Default, DefaultEnvironment

env = DefaultEnvironment()
project = Path(env.subst("$PROJECT_DIR"))


def _runner(command, log):
    def run(target, source, env):
        done = subprocess.run(
            command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.stdout:
            with log.open("ab") as file:
                file.write(done.stdout)
        return done.returncode

    return run


plan = json.loads((project / "programs.json").read_text(encoding="utf-8"))
if "libraries" in plan:
    env.SConscript("libraries.py", exports={"env": env, "wanted": plan["libraries"]})
for step in plan.get("steps", ()):
    action = env.Action(_runner(step["command"], project / step["log"]), f"Building {step['target']}")
    target, inputs = str(project / step["target"]), [str(project / name) for name in step["inputs"]]
    Default(env.Command(target, inputs, action))
