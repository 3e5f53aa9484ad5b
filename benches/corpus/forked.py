# The least that running all examples can cost if each page has a process of its own: a warm interpreter forks
# one for each page, which runs its examples as floor.py does. Nothing is compared, limited or survived.
import collections
import datetime
import functools
import gc
import heapq
import io
import itertools
import json
import math
import os
import random
import re
import string
import sys
import textwrap

PER_PAGE = 20

with open(sys.argv[1], encoding="utf-8") as file:
    examples = file.read().split("\0")
# Compiling for the first time makes classes: once for all pages, and not in each.
compile("", "example.py", "exec")
gc.collect()
gc.freeze()
for start in range(0, len(examples), PER_PAGE):
    if os.fork() == 0:
        for source in examples[start : start + PER_PAGE]:
            sys.stdout = io.StringIO()
            exec(compile(source, "example.py", "exec"), {"__name__": "__main__"})
        os._exit(0)
    os.wait()
