"""Says what the standard library's doctest makes of a transcript: the oracle of doctest_agreement.rs.

    python3 oracle.py transcripts FILE...   one JSON line per statement, run by doctest's own runner
    python3 oracle.py refused FILE...       one JSON line per file: the line that doctest complains of
    python3 oracle.py random SEED COUNT     generated transcripts and comparisons, one JSON line each

A first line such as `flags: ELLIPSIS SKIP` in a transcript names the flags that hold for all of it.
"""

import doctest
import io
import json
import random
import re
import sys
import traceback
import types

assert sys.version_info >= (3, 10), "the oracle needs Python 3.10 or newer"

NAMES = list(doctest.OPTIONFLAGS_BY_NAME)


def flag_set(names):
    flags = 0
    for name in names:
        flags |= doctest.OPTIONFLAGS_BY_NAME[name]
    return flags


def describe(example):
    names = {flag: name for name, flag in doctest.OPTIONFLAGS_BY_NAME.items()}
    return {
        "line": example.lineno + 1,
        "indent": example.indent,
        "source": example.source,
        "want": example.want,
        "exc_msg": example.exc_msg,
        "options": {names[flag]: on for flag, on in example.options.items()},
    }


class RawOutput(doctest._SpoofOut):
    """Keeps what was printed before doctest adds the final newline."""

    raw = ""

    def getvalue(self):
        self.raw = io.StringIO.getvalue(self)
        return super().getvalue()


class Runner(doctest.DocTestRunner):
    """doctest's own runner, which keeps its verdicts instead of printing them."""

    def __init__(self, flags):
        super().__init__(verbose=False, optionflags=flags)
        self._fakeout = RawOutput()
        self.results = {}
        self.exception = None

    def report_start(self, out, test, example):
        self.exception = None

    def keep(self, example, verdict):
        result = {"verdict": verdict}
        if self.exception is None:
            result["got"] = self._fakeout.raw
        else:
            result["got"] = None
            result["stdout"] = self._fakeout.raw
            result["exception"] = self.exception
        self.results[example.lineno] = result

    def report_success(self, out, test, example, got):
        self.keep(example, True)

    def report_failure(self, out, test, example, got):
        self.keep(example, False)

    def report_unexpected_exception(self, out, test, example, exc_info):
        self.keep(example, False)

    def format_exception_only(self, *exception):
        """Keeps the whole text for the record, and hands it to doctest as one item from the type on.

        Older versions of doctest look at the last item alone and so at nothing but the last note.
        """
        items = traceback.format_exception_only(*exception)
        self.exception = "".join(items)
        start = next(i for i, item in enumerate(items) if not item.startswith(" "))
        return items[:start] + ["".join(items[start:])]


def transcripts(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        header = re.match(r" *flags: (.*)\n", text)
        names = header.group(1).split() if header else []
        test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, path, path, 0)
        examples = list(test.examples)
        runner = Runner(flag_set(names))
        doctest.traceback = types.SimpleNamespace(
            format_exception_only=runner.format_exception_only,
            print_exception=traceback.print_exception,
        )
        runner.run(test, out=lambda text: None)
        for example in examples:
            # A statement that was skipped, or comes after FAIL_FAST stopped the run, has no result.
            yield {"file": path, "flags": names, **describe(example), **runner.results.get(example.lineno, {})}


def complaint(text):
    """The 1-based line that doctest complains of; None if it has no complaint."""
    try:
        doctest.DocTestParser().get_examples(text)
    except ValueError as error:
        line = int(re.match(r"line (\d+)", str(error)).group(1))
        # These two messages, of all of them, name the line above.
        one_less = r"on a line with no example|leading whitespace: '\s*\.\.\."
        return line + bool(re.search(one_less, str(error)))


def refused(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield {"file": path, "line": complaint(file.read())}


BLOCK_PIECES = [
    *[">>> ", "\n>>> ", "\n>>> ", "\n... ", "\n...", ">>>", "...", "\n", "\n", "\n\n", "\n ", "\n  ", "\n\t"],
    *["x", "x", "y", " ", "    ", "\t", "é", "\xa0", "\x0c", "\x1c", "\u2003", "#", "# doctest: +SKIP", ",", "'"],
    *["#doctest:", " +ELLIPSIS", " -SKIP", "\nTraceback (most recent call last):", "\n  File", "\nE: x", "_"],
]
TEXT_PIECES = [
    *["a", "a", "b", ".", "...", "...", "\n", "\n", "\n\n", " ", "  ", "\t", "\x0b", "<BLANKLINE>", "\n<BLANKLINE>\n"],
    *["1", "0", "True", "False", "é", "\\xe9", "\u20ac", "\\u20ac", "\U0001f600", "\xa0", ":", "E: "],
]


# What may be printed where the page has this piece.
LOOKALIKES = {
    "...": ["", "a", "b.", "\n"],
    "<BLANKLINE>": ["", " "],
    "\n<BLANKLINE>\n": ["\n\n", "\n \t\n"],
    " ": ["  ", "\n", "\x0b"],
    "\n": ["\n\n", " "],
    "1": ["True"],
    "0": ["False"],
    "\\xe9": ["é"],
    "\\u20ac": ["\u20ac"],
}


def lookalikes(pieces, source):
    for piece in pieces:
        if source.random() < 0.1:
            yield source.choice(TEXT_PIECES)
        elif source.random() < 0.6:
            yield source.choice(LOOKALIKES.get(piece, [piece]))
        else:
            yield piece


def generated(seed, count):
    source = random.Random(int(seed))
    for _ in range(int(count)):
        block = "".join(source.choices(BLOCK_PIECES, k=source.randrange(16)))
        line = complaint(block)
        if line is None:
            yield {"block": block, "statements": [describe(e) for e in doctest.DocTestParser().get_examples(block)]}
        else:
            yield {"block": block, "refused": line}
        pieces = source.choices(TEXT_PIECES, k=source.randrange(8))
        want, got = "".join(pieces), "".join(lookalikes(pieces, source))
        if source.random() < 0.8:
            want, got = want + "\n", got + "\n"
        names = [name for name in NAMES if source.random() < 0.4]
        verdict = doctest.OutputChecker().check_output(want, got, flag_set(names))
        yield {"want": want, "got": got, "flags": names, "verdict": verdict}


if __name__ == "__main__":
    mode = {"transcripts": transcripts, "refused": refused, "random": lambda words: generated(*words)}[sys.argv[1]]
    lines = [json.dumps(record) for record in mode(sys.argv[2:])]
    print("\n".join(lines))
