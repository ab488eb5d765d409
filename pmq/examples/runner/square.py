#!/usr/bin/env python3
"""A runner: a long-lived process that runs pmq's tasks, one line in, one line out.

Put your own functions into TASKS. The protocol is described in docs/runners.md.
"""

import json
import os
import sys


class Refused(Exception):
    """The task can never succeed, so that another attempt is no use."""


def square(number):
    return number * number


def cube(number):
    return number**3


TASKS = {"square": square, "cube": cube}


def run(task):
    """Returns the answer to one task."""
    try:
        function = TASKS.get(task["name"])
        if function is None:
            raise Refused(f"this runner has no task {task['name']!r}")
        if "args" not in task:
            raise Refused(f"this runner wants JSON, not {task['content_type']}")
        return {"id": task["id"], "result": function(task["args"])}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return {"id": task["id"], "error": message, "retry": not isinstance(error, Refused)}


def main():
    # Standard output belongs to the protocol. What a task prints goes to standard error, and so into
    # the worker's log.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(line):
        print(json.dumps(line), file=answers, flush=True)

    say({"ready": True, "tasks": list(TASKS)})
    for line in sys.stdin.buffer:
        say(run(json.loads(line)))


if __name__ == "__main__":
    main()
