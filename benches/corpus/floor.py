# The least that running all examples can cost: one process, each example in a fresh namespace, its
# output captured. Nothing is isolated, compared or survived.
import io
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    examples = file.read().split("\0")
captured = 0
stdout = sys.stdout
for source in examples:
    sys.stdout = io.StringIO()
    exec(compile(source, "example.py", "exec"), {"__name__": "__main__"})
    captured += len(sys.stdout.getvalue())
sys.stdout = stdout
print(captured)
