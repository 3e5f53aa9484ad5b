# Writes the examples as transcripts with their output, for tools that read nothing else: pages of
# `>>>` blocks (`pages/*.md`) and the same text in docstrings (`module.py`).
import ast
import contextlib
import io
import pathlib
import sys

joined, directory, per_page = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])


def transcript(source):
    lines = source.splitlines()
    namespace = {"__name__": "__main__"}
    for statement in ast.parse(source).body:
        first = min([statement.lineno] + [item.lineno for item in getattr(statement, "decorator_list", [])])
        code = lines[first - 1 : statement.end_lineno]
        yield ">>> " + code[0]
        for line in code[1:]:
            yield ("... " + line).rstrip()
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile("\n".join(code) + "\n", "example.py", "single"), namespace)
        yield from output.getvalue().splitlines()


examples = pathlib.Path(joined).read_text(encoding="utf-8").split("\0")
(directory / "pages").mkdir(parents=True, exist_ok=True)
module = []
for start in range(0, len(examples), per_page):
    number = start // per_page + 1
    page = [f"# Page {number}", "", "Every example stands for itself."]
    module += [f"def page_{number}():", '    r"""']
    for part, source in enumerate(examples[start : start + per_page], 1):
        text = list(transcript(source))
        # A closing fence right below output would be output to tools that know no Markdown.
        page += ["", f"## Part {part}", "", "Some prose.", "", "```pycon", *text, "", "```"]
        module += ["    " + line for line in text] + [""]
    module += ['    """', ""]
    (directory / f"pages/page-{number:04}.md").write_text("\n".join(page) + "\n", encoding="utf-8")
(directory / "module.py").write_text("\n".join(module) + "\n", encoding="utf-8")
