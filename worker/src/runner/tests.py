"""A runner that misbehaves as the tests tell it to."""
import json, os, signal, sys


def say(line):
    sys.stdout.write(line)
    sys.stdout.flush()


for line in sys.stdin.buffer:
    task = json.loads(line)
    args = task["args"]
    # So that the tasks behind this one are known to be in the child.
    for _ in range(args.get("swallow", 0)):
        sys.stdin.buffer.readline()
    if "say" in args:
        say(args["say"] * args.get("times", 1))
    do = args.get("do", "answer")
    if do == "die":
        os._exit(3)
    elif do == "hang":
        open(args["file"], "w").write(f"{os.getpid()}\n")
        signal.pause()
    elif do == "answer and die":
        say(json.dumps({"id": task["id"], "result": "done"}) + "\n")
        os._exit(3)
    elif do == "answer":
        say(json.dumps({"id": task["id"], "result": {"pid": os.getpid(), "task": task}}) + "\n")
