"""A contestant that answers as its options say, and writes a line for every call to a log."""

import os
import time
from pathlib import Path

import numpy as np

from benchmarks.peer import Prepared, Unsupported

TOLERANCE = 1e-6


def unavailable():
    return None


def versions():
    return {"fake": "1", "omp": os.environ.get("OMP_NUM_THREADS", "unset")}


def prepare(case, inputs, options):
    if options.get("unsupported"):
        raise Unsupported("no such metric here")
    rows, others = (np.asarray(array, np.float64) for array in inputs.next())
    values = np.square(rows[:, None] - others[None]).sum(2)
    ids = np.argsort(values, axis=1, kind="stable")[:, : case.k]

    def run():
        if "log" in options:
            with Path(options["log"]).open("a") as log:
                log.write(options["name"] + "\n")
        time.sleep(options.get("sleep", 0.06))
        answer = ids.copy()
        if options.get("wrong"):
            answer[:, -1] = (answer[:, -1] + 1) % len(others)
        if options.get("dies"):
            os._exit(3)
        if options.get("too_big"):
            raise MemoryError("2 TB")
        if options.get("raises"):
            raise ArithmeticError("no result today")
        return np.take_along_axis(values, answer, 1), answer

    return Prepared(run, lambda result: {"distances": result[0], "ids": result[1]})
