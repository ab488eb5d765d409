# A runner whose tasks do nothing: a line in, a line out, flushed where no more lines wait.
import json
import os

lines = b""
while True:
    read = os.read(0, 65536)
    if not read:
        break
    lines += read
    *whole, lines = lines.split(b"\n")
    ids = (json.loads(line)["id"] for line in whole)
    os.write(1, b"".join(b'{"id":"%s","result":null}\n' % id.encode() for id in ids))
