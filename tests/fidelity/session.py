# The examples of a session in one plain interpreter: nothing is preloaded, forked or captured here.
# `start` is one expression of the script that is run, so that it leaves no name in `__main__`.


def start(steps, scratch):
    import os
    import sys

    main = sys.modules["__main__"].__dict__
    sys.path[0] = scratch
    loop = None
    for number, step in enumerate(steps):
        if step["kind"] == "file":
            os.makedirs(os.path.dirname(step["to"]), exist_ok=True)
            os.replace(step["from"], step["to"])
            continue
        environment = {name: os.environ.get(name) for name in step["environment"]}
        os.environ.update(step["environment"])
        if step["stdin"] is not None:
            os.dup2(os.open(step["stdin"], os.O_RDONLY), 0)
            sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
        ending = "completed"
        is_last = number == len(steps) - 1
        try:
            if step["kind"] == "console":
                os.system(step["command"])
            elif step["kind"] == "module":
                sys.argv = step["argv"]
                sys.orig_argv = [sys.executable, *step["argv"]]
                main["__file__"] = step["file"]
                main["__loader__"] = type(__spec_loader__)("__main__", step["path"])
                exec(compile(step["source"], step["path"], "exec", 0, True), main)
            else:
                sys.argv = step["argv"]
                sys.orig_argv = [sys.executable, *step["argv"]]
                for statement in step["statements"]:
                    try:
                        # As `python -m asyncio` does it, where `await` may stand at the top.
                        code = compile(statement, "<stdin>", "single", 0x2000, True)
                        coroutine = eval(code, main)
                        if code.co_flags & 0x80:
                            import asyncio

                            loop = loop or asyncio.new_event_loop()
                            asyncio.set_event_loop(loop)
                            loop.run_until_complete(coroutine)
                    except SystemExit:
                        raise
                    except BaseException:
                        pass
        except SystemExit as exit:
            if is_last:
                raise
            code = exit.code
            if code is not None and not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
            ending = f"exited {(code or 0) & 255}"
        except BaseException:
            if is_last:
                raise
            sys.excepthook(*sys.exc_info())
            ending = "raised"
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if not is_last:
            for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
                if not getattr(stream, "closed", True):
                    stream.flush()
            for descriptor in (1, 2):
                os.write(descriptor, f"\x1e{ending}\x1e".encode())


__spec_loader__ = __import__("sys").modules["__main__"].__loader__
start(steps, scratch)
