# Runs in a host before its first fork; see import.rs.


def preload(
    names,
    items=("*",),
    store=(),
    give=None,
    enter=lambda name: None,
    leave=lambda name: None,
    at_fork=lambda name: None,
):
    """Import modules, with these items of each, and take them out of sys.modules again.

    `store` holds {name: (module, (package, attribute) or None)} of what was imported so before, and `give(name)`
    puts one of these in place. `enter` and `leave` are called when a module's own code is about to run and
    when it has run, `at_fork` when it registers what is to be done at a fork. That is not done here: a host forks
    sessions, in which the module has not been imported yet.

    Returns {name: (module, names of what it imported, in order, (package, attribute) or None, what it registered)},
    and {name: what its import said or raised}.
    """
    import builtins
    import sys
    from _frozen_importlib import _find_and_load
    import _frozen_importlib as importlib

    at_start = set(sys.modules)
    original_import = builtins.__import__
    imports = {}
    loading = []
    known = set(at_start)

    def note(name):
        if loading and name != loading[-1]:
            imports.setdefault(loading[-1], {})[name] = None

    def note_unannounced():
        """Modules such as `typing.re`, never imported, but put there by the code that runs."""
        if loading and sys.modules.keys() - known:
            for name in [name for name in sys.modules if name not in known]:
                known.add(name)
                note(name)

    def traced_find_and_load(name, import_):
        note_unannounced()
        note(name)
        if name in store:
            give(name)
            known.update(sys.modules)
            return sys.modules[name]
        enter(name)
        known.add(name)
        loading.append(name)
        try:
            return _find_and_load(name, import_)
        finally:
            note_unannounced()
            leave(loading.pop())

    def traced_import(name, globals=None, locals=None, fromlist=(), level=0):
        # What is there already is imported without a search.
        note_unannounced()
        result = original_import(name, globals, locals, fromlist, level)
        if loading:
            if level:
                package = globals.get("__package__") or globals["__name__"]
                base = package.rsplit(".", level - 1)[0]
                name = f"{base}.{name}" if name else base
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                note(".".join(parts[:end]))
            for item in fromlist or ():
                if f"{name}.{item}" in sys.modules:
                    note(f"{name}.{item}")
        return result

    registered = {}

    def note_registered(**handlers):
        if not loading:
            return register_at_fork(**handlers)
        registered.setdefault(loading[-1], []).append(handlers)
        at_fork(loading[-1])

    os = sys.modules["os"]
    register_at_fork = os.register_at_fork
    noisy = {}
    os.register_at_fork = note_registered
    importlib._find_and_load = traced_find_and_load
    builtins.__import__ = traced_import
    try:
        import warnings

        for name in names:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                enter(None)
                try:
                    traced_import(name, {}, None, items)
                except BaseException as error:
                    # Not on this version or not in this build: the example will say so.
                    noisy[name] = f"it cannot be imported (`{type(error).__name__}: {error}`)"
                leave(None)
            if caught:
                # A warning is meant for whoever imports; it would be lost.
                warning = caught[0]
                noisy[name] = f"it warns (`{warning.category.__name__}: {warning.message}`)"
    finally:
        builtins.__import__ = original_import
        importlib._find_and_load = _find_and_load
        os.register_at_fork = register_at_fork

    added = [name for name in sys.modules if name not in at_start]
    own = [name for name in added if name not in store]

    brought = {}

    def brings(package):
        """All that importing a package imports."""
        if package not in brought:
            brought[package] = seen = set()
            waiting = [package]
            while waiting:
                for name in imports.get(waiting.pop(), ()):
                    if name not in seen:
                        seen.add(name)
                        waiting.append(name)
        return brought[package]

    stored = {}
    for name in own:
        module = sys.modules[name]
        package, _, attribute = name.rpartition(".")
        in_package = None
        # What a package itself, or the one that it is in, imports of its own comes and stays with it.
        if (
            package
            and name not in brings(package)
            and name not in brings(name.partition(".")[0])
            and getattr(sys.modules.get(package), attribute, None) is module
        ):
            in_package = (package, attribute)
        stored[name] = (module, list(imports.get(name, ())), in_package, registered.get(name, []))
    for name in added:
        in_package = store[name][1] if name in store else stored[name][2]
        if in_package:
            delattr(sys.modules[in_package[0]], in_package[1])
    for name in added:
        del sys.modules[name]

    # Whatever depends on a noisy module has to be imported in the plain way as well.
    left_out = set(noisy)
    while True:
        more = {name for name in stored if name in left_out or left_out.intersection(stored[name][1])}
        if not more:
            return stored, noisy
        left_out |= more
        for name in more:
            del stored[name]


def probe(names):
    """Return those of the modules that can be found."""
    import sys

    at_start = set(sys.modules)
    from importlib.util import find_spec

    def found(name):
        try:
            return find_spec(name) is not None
        except (ImportError, AttributeError, ValueError):
            return name in sys.modules

    result = [name for name in names if found(name)]
    for name in set(sys.modules) - at_start:
        del sys.modules[name]
    return result
