"""A training loop in plain Python: a line is fitted by gradient descent to points that are made up as it goes. All of its state is in its
checkpoints, so that it ends with the same numbers however often it is killed."""

import json
import os
import random
import time

import baton_task


def main(task):
    settings = task.input
    state = task.load() or {"step": 0, "slope": 0.0, "offset": 0.0, "random": None}
    points = random.Random(7)
    if state["random"] is not None:
        version, numbers, gauss = state["random"]
        points.setstate((version, tuple(numbers), gauss))
    note(settings, {"what": "start", "from": state["step"], "attempt": task.attempt, "epoch": task.epoch, "pid": os.getpid()})
    while state["step"] < settings["steps"]:
        task.check()
        x = points.uniform(-1, 1)
        y = 3 * x - 2 + points.gauss(0, 0.1)
        error = state["slope"] * x + state["offset"] - y
        version, numbers, gauss = points.getstate()
        state = {
            "step": state["step"] + 1,
            "slope": state["slope"] - 0.05 * error * x,
            "offset": state["offset"] - 0.05 * error,
            "random": [version, list(numbers), gauss],
        }
        task.progress(state["step"] / settings["steps"])
        if task.checkpoint_wanted or state["step"] % settings["every"] == 0:
            wanted = task.checkpoint_wanted
            task.save(state)
            note(settings, {"what": "wanted" if wanted else "saved", "step": state["step"], "epoch": task.epoch})
        if not os.path.exists(settings["notes"] + "-hurry"):
            time.sleep(settings.get("pause", 0.002))
    return {"slope": state["slope"], "offset": state["offset"], "steps": state["step"]}


def note(settings, what):
    with open(settings["notes"], "a") as file:
        file.write(json.dumps(what) + "\n")


baton_task.run(main)
