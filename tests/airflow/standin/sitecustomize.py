"""Stands in for the command ``ringrift <stage>`` in tests of the DAGs: makes small true artifacts, no games, no nets.

Python imports this by itself from PYTHONPATH; only a stage's own process is taken over. What it does is steered by
``$RINGRIFT_HOME/standin.json``, by config: {"seconds": {stage: s}, "verdict": "PASS", "fail": {stage: [code, times]}}.
"""

import sys

STAGES = ("selfplay", "parity", "export", "train", "gauntlet", "promote", "distribute")


def _stage() -> str | None:
    argv = sys.orig_argv
    if "ringrift_ops.cli" not in argv:
        return None
    after = argv[argv.index("ringrift_ops.cli") + 1 :]
    return after[0] if after and after[0] in STAGES and "--spec" in after else None


if (stage := _stage()) is not None:
    import os
    import pathlib

    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import standin

    sys.stdout.flush()
    os._exit(standin.main(stage, sys.orig_argv))
