# An example of our own: run in a plain session and in one that is given a package, it prints what it sees there.


def _verify_look():
    import sys
    import _signal
    import posix

    library = sys.stdlib_module_names
    Module, Function, Method = type(sys), type(_verify_look), type([].append)
    BoundMethod = type(Look().method)
    Pattern = type(sys.modules["re"].compile("")) if "re" in sys.modules else None
    atoms = {int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range}
    # Computed anew for each session; see `REFRESH` in `preload/refresh.rs`.
    refreshed = {"numpy.random.mtrand": ["_rand"]}
    skipped = {"__builtins__", "__spec__", "__loader__", "__cached__", "__doc__"}
    seen = set()
    kept = []

    def of_library(value):
        module = getattr(value, "__module__", None)
        return isinstance(module, str) and module.partition(".")[0] in library

    def name_of(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"

    def unordered(values):
        tokens = []
        for value in values:
            kind = type(value)
            tokens.append(repr(value) if kind in atoms else f"{name_of(kind)} {name_of(value)}")
        return sorted(tokens)

    def parts(value, kind):
        """What an object has in it."""
        try:
            held = object.__getattribute__(value, "__dict__")
        except Exception:
            held = None
        found = list(held.items()) if type(held) is dict else []
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                try:
                    found.append((slot, object.__getattribute__(value, slot)))
                except Exception:
                    pass
        if isinstance(value, dict):
            found.extend(dict.items(value))
        elif isinstance(value, (list, tuple)):
            found.append((list, list(value)))
        elif isinstance(value, (int, str, bytes, float)):
            found.append((str, repr(value)))
        elif not found and kind.__module__ != "builtins" and not of_library_of_locks(kind):
            try:
                reduced = value.__reduce_ex__(2)
            except Exception:
                reduced = ()
            if isinstance(reduced, tuple):
                found.extend(enumerate(reduced[1:]))
        kept.append(found)
        return found

    def of_library_of_locks(kind):
        return kind.__module__ in ("_thread", "threading", "_contextvars", "weakref", "_weakref")

    def digest(start):
        tokens = []
        stack = [start]
        while stack:
            value = stack.pop()
            kind = type(value)
            if kind in atoms:
                tokens.append((kind.__name__, value if kind in (int, str, bytes) else repr(value)))
                continue
            if id(value) in seen:
                tokens.append("seen")
                continue
            seen.add(id(value))
            if kind is tuple or kind is list:
                tokens.append((kind.__name__, len(value)))
                stack.extend(reversed(value))
            elif kind is dict:
                tokens.append(("dict", len(value)))
                for key, item in reversed(value.items()):
                    stack.append(item)
                    stack.append(key)
            elif kind is set or kind is frozenset:
                tokens.append((kind.__name__, *unordered(value)))
            elif kind is Module:
                tokens.append(("module", value.__name__))
            elif isinstance(value, type):
                tokens.append(("class", name_of(value)))
                if not of_library(value) and value.__module__ != "builtins":
                    for key, item in reversed(type.__getattribute__(value, "__dict__").items()):
                        if key not in ("__dict__", "__weakref__", "__doc__"):
                            stack.append(item)
                            stack.append(key)
            elif kind is Function:
                tokens.append(("function", name_of(value)))
                if not of_library(value):
                    stack.append(value.__dict__)
                    stack.append(value.__kwdefaults__)
                    stack.append(value.__defaults__)
                    for cell in value.__closure__ or ():
                        try:
                            stack.append(cell.cell_contents)
                        except ValueError:
                            tokens.append("empty")
            elif kind is BoundMethod:
                tokens.append("method")
                stack.append(value.__self__)
                stack.append(value.__func__)
            elif kind is Method:
                tokens.append(("built-in", name_of(value)))
            elif kind is property:
                tokens.append("property")
                stack.extend((value.fdel, value.fset, value.fget))
            elif kind is staticmethod or kind is classmethod:
                tokens.append(kind.__name__)
                stack.append(value.__func__)
            elif kind is Pattern:
                tokens.append(("pattern", value.pattern, value.flags))
            else:
                tokens.append(("object", name_of(kind)))
                for key, item in reversed(parts(value, kind)):
                    stack.append(item)
                    stack.append(key)
        # Whatever their order: what was in a set of objects comes out of it by their addresses.
        return sum(map(hash, tokens))

    def unaddressed(value):
        """Its text without addresses, which differ from process to process."""
        items = value if isinstance(value, (list, tuple)) else [value]
        return [item if type(item) in atoms else name_of(item) or name_of(type(item)) for item in items]

    def show(label, value):
        print(f"{label}\t{value}")

    for name in sys.modules:
        show("`sys.modules`", name)
    for name in ("path", "path_hooks", "meta_path", "flags", "argv", "warnoptions"):
        show(f"`sys.{name}`", repr(unaddressed(getattr(sys, name))))
    for name in ("excepthook", "displayhook", "unraisablehook", "breakpointhook"):
        show(f"`sys.{name}`", name_of(getattr(sys, name)))
    for name in ("getrecursionlimit", "getswitchinterval", "gettrace", "getprofile"):
        show(f"`sys.{name}()`", getattr(sys, name)())
    if "warnings" in sys.modules:
        show("`warnings.filters`", repr(sys.modules["warnings"].filters))
    show("`os.environ`", sorted(posix.environ.items()))
    show("the working directory", posix.getcwd())
    for number in sorted(_signal.valid_signals()):
        show("a signal handler", f"{number} {unaddressed(_signal.getsignal(number))}")
    show("the threads", len(posix.listdir("/proc/self/task")))
    show("the open files", sorted(map(int, posix.listdir("/proc/self/fd"))))
    if "gc" in sys.modules:
        gc = sys.modules["gc"]
        show("the garbage collector", (gc.isenabled(), gc.get_threshold(), len(gc.callbacks)))
    for name, attributes in refreshed.items():
        for attribute in attributes:
            seen.add(id(getattr(sys.modules.get(name), attribute, None)))
    for name, module in list(sys.modules.items()):
        if name == "__main__" or name.partition(".")[0] in library or type(module) is not Module:
            continue
        for key, value in sorted(vars(module).items()):
            if key not in skipped:
                show(f"`{name}.{key}`", digest(value))


class Look:
    def method(self):
        pass
