"""`python child.py COMMAND…`: runs it, and says in a line of JSON what it cost by the kernel's account.

A program of its own, and small: what a process held when it was forked counts into its peak, so nobody large may fork
what is to be measured. The peak is that of the largest process, where the command starts more.
"""

import json
import os
import subprocess
import sys
import time

began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
cost = {
    "exit": os.waitstatus_to_exitcode(status),
    "seconds": time.perf_counter() - began,
    "CPU s": usage.ru_utime + usage.ru_stime,
    "peak GiB": usage.ru_maxrss / 2**20,  # the kernel counts in KiB
}
print(json.dumps(cost))
