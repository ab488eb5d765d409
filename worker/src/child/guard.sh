# The guard of one worker. Its standard input is a pipe that the worker alone holds, so that its end
# is the end of the worker, however that came. $1 is the mark of the worker's processes.
# Its standard output is a file in which the worker keeps the process groups that run, one a line.
# At the end of the input every group of the file is killed, then whatever carries the mark: what
# started too late to be registered, or left its group.

trap '' HUP INT QUIT TERM
# Files that this worker was started with, and left open, are not for the guard to hold.
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-

while read -r line; do :; done

while read -r group; do
    [ -z "$group" ] || kill -s KILL -- "-$group"
done <&1

# A marked process may fork while the list is read, so the list is read until it is empty.
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=$(grep -lsxzF -- "$1" /proc/[0-9]*/environ)
    [ -n "$found" ] || break
    for file in $found; do
        pid=${file#/proc/}
        kill -s KILL "${pid%/environ}"
    done
done
