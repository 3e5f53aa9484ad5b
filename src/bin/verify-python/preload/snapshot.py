# Runs in a session that becomes a host of its own, behind preload.py; see ../snapshot.rs.

# State of the standard library that is computed when it is first asked for, and is the same for everybody.
COMPUTED = {
    "_strptime": {"_TimeRE_cache", "_regex_cache"},
    "concurrent.futures": {"ProcessPoolExecutor", "ThreadPoolExecutor"},
    "copyreg": {"dispatch_table"},
    "linecache": {"cache"},
    "pickle": {"dispatch_table"},
    "platform": {"_uname_cache", "_sys_version_cache", "_platform_cache"},
    "re": {"_cache", "_cache2", "_MAXCACHE"},
    "sys": {"modules", "path_importer_cache", "last_exc", "meta_path"},
    "sysconfig": {"_CONFIG_VARS", "_CONFIG_VARS_INITIALIZED"},
    "typing": {"_cleanups"},
    "warnings": {"filters", "_filters_version", "showwarning", "_showwarnmsg_impl"},
    "_warnings": {"filters"},
}

REGISTRIES = {"filter": "`warnings.filters`", "finder": "`sys.meta_path`"}


class Frame:
    """The code of a module while it runs, with what it found, and what the modules that it imports have done."""

    def __init__(self, name, registries, handlers):
        self.name = name
        self.registries = registries
        self.handlers = handlers
        self.inner = {"filter": [], "finder": []}
        self.inner_handlers = 0


def snapshot(name, store, give, preload, count_handlers, trusted):
    """Import a package as preload() does, and look at what else that does.

    Returns what was imported, as preload() does; {module: [(kind, order, is appended, item)]} of what its code put
    into sys.meta_path and warnings.filters; and {top-level module: what it did} of what a session that is given the
    package would miss, or would find before.
    """
    import os
    import sys
    from _frozen_importlib import _find_spec

    if trusted is not None:
        trusted = (*trusted, *map(os.path.realpath, trusted))
        trusted = tuple(directory.rstrip("/") + "/" for directory in trusted)
    library = sys.stdlib_module_names
    containers = (dict, list, set)
    effects = []
    faults = {}
    loading = []

    def is_library(name):
        return name is None or name.partition(".")[0] in library

    def fault(name, what):
        if not is_library(name):
            faults.setdefault(name.partition(".")[0], what)

    def registries():
        warnings = sys.modules["warnings"]
        return {"filter": list(warnings.filters), "finder": list(sys.meta_path)}

    def is_same(old, new):
        """Whether it is still the same object, or one that nobody can tell from it."""
        if old[0] is not new[0]:
            return type(old[0]) is type(new[0]) in (int, float, str, bytes, tuple) and old[0] == new[0]
        return old[1] == new[1]

    def contents(module):
        """What it holds, with the size of containers that are for everybody: the others are caches."""
        return {
            key: (value, len(value) if type(value) in containers and key[0] != "_" else None)
            for key, value in vars(module).items()
            if not isinstance(value, type(sys)) and not key.startswith("__")
        }

    def state():
        at_start = set(sys.modules)
        import _locale
        import _signal
        import posix

        for other in set(sys.modules) - at_start:
            # The package is to import it itself.
            del sys.modules[other]
        found = {f"`sys.{key}`": value for key, value in vars(sys).items() if key.endswith("hook")}
        for key in (
            "getrecursionlimit",
            "getswitchinterval",
            "getdlopenflags",
            "gettrace",
            "getprofile",
            "get_int_max_str_digits",
            "get_asyncgen_hooks",
        ):
            if hasattr(sys, key):
                found[f"`sys.{key}()`"] = getattr(sys, key)()
        found["`sys.path`"] = list(sys.path)
        found["`sys.path_hooks`"] = list(sys.path_hooks)
        found["the standard streams"] = (sys.stdin, sys.stdout, sys.stderr)
        found["the locale"] = _locale.setlocale(_locale.LC_ALL, None)
        found["the working directory"] = posix.getcwd()
        mask = posix.umask(0o22)
        posix.umask(mask)
        found["the umask"] = mask
        for number in _signal.valid_signals():
            found["a signal handler", number] = _signal.getsignal(number)
        found["`os.environ`"] = dict(sys.modules["os"].environ)
        if "random" in store:
            found["the state of `random`"] = store["random"][0].getstate()
        if "socket" in store:
            found["the timeout of sockets"] = store["socket"][0].getdefaulttimeout()
        return found

    # What modules of the library held, before or as soon as they were loaded.
    known = {}
    final = {}

    def check_origin(name):
        """What runs here is not shut in: it has to be installed, not a file that anybody's change can bring."""
        package, _, _ = name.rpartition(".")
        if package:
            places = getattr(sys.modules.get(package), "__path__", ())
        else:
            spec = _find_spec(name, None)
            if spec is None:
                return
            places = [spec.origin] if spec.has_location else spec.submodule_search_locations or ()
        for place in places:
            real = os.path.realpath(place)
            # Some installers make an environment of links to where they have all packages.
            is_installed = real.startswith(trusted) or "/site-packages/" in real
            if not place.startswith(trusted) or not is_installed:
                fault(name, f"it lies in `{real}`, outside of the installed packages")
                raise ImportError(f"{name} is not installed")

    def enter(name):
        if trusted is not None and not is_library(name):
            check_origin(name)
        loading.append(Frame(name, registries(), count_handlers()))

    def leave(name):
        frame = loading.pop()
        outer = loading[-1] if loading else Frame(None, {}, 0)
        for kind, now in registries().items():
            old = frame.registries[kind]
            added = len(now) - len(old)
            present = {id(item) for item in now}
            if not present.issuperset(map(id, frame.inner[kind])):
                fault(name, f"it takes back what was put into {REGISTRIES[kind]}")
            if added < 0 or now[added:] != old and now[: len(old)] != old:
                fault(name, f"it changes {REGISTRIES[kind]} in the middle")
                continue
            is_appended = now[added:] != old
            of_inner = set(map(id, frame.inner[kind]))
            for item in now[len(old) :] if is_appended else now[:added]:
                outer.inner[kind].append(item)
                if id(item) not in of_inner:
                    effects.append((name, kind, is_appended, item))
        handlers = count_handlers() - frame.handlers
        if handlers != frame.inner_handlers:
            fault(name, "it registers an exit handler")
        outer.inner_handlers += handlers
        if name is None:
            final.update(registries())
        elif is_library(name) and name in sys.modules:
            known.setdefault(name, contents(sys.modules[name]))

    def give_with_effects(other):
        if not loading:
            give(other)
            return
        before = {id(item) for items in registries().values() for item in items}
        give(other)
        for kind, items in registries().items():
            loading[-1].inner[kind].extend(item for item in items if id(item) not in before)

    def at_fork(name):
        fault(name, "it registers what is to be done at a fork")

    for other, module in list(sys.modules.items()):
        known[other] = contents(module)
    for other, (module, _) in store.items():
        if is_library(other):
            known[other] = contents(module)
    modules = {**sys.modules, **{other: module for other, (module, _) in store.items()}}
    before = state()
    finders = list(sys.meta_path)
    try:
        stored, noisy = preload([name], (), store, give_with_effects, enter, leave, at_fork)
    finally:
        sys.meta_path[:] = finders
    for module, what in noisy.items():
        fault(module, what)
    after = state()
    for what, value in after.items():
        if before.get(what) != value:
            label = what if isinstance(what, str) else what[0]
            fault(name, f"it changes {label}")
    modules.update((other, module) for other, (module, *_) in stored.items())
    for other, old in known.items():
        module = modules.get(other)
        if module is None:
            continue
        for key, (value, size) in contents(module).items():
            if key in COMPUTED.get(other, ()):
                continue
            if key not in old or not is_same(old[key], (value, size)):
                fault(name, f"it changes `{other}.{key}`")
    order = {
        kind: {id(item): place for place, item in enumerate(items)} for kind, items in final.items()
    }
    replayed = {}
    for module, kind, is_appended, item in effects:
        place = order[kind].get(id(item))
        if place is not None:
            # What was put in front last stands first.
            place = place if is_appended else -place
            replayed.setdefault(module, []).append((kind, place, is_appended, item))
    return stored, replayed, faults
