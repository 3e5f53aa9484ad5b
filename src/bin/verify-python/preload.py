# Runs in the host before its first fork; see preload.rs.


def preload(names):
    """Import modules and take them out of sys.modules again.

    Returns {module name: (module, names of what it imported, in order, (package, attribute) or None)}.
    """
    import builtins
    import sys
    from _frozen_importlib import _find_and_load
    import _frozen_importlib as importlib

    at_start = set(sys.modules)
    original_import = builtins.__import__
    imports = {}
    loading = []
    found = set()

    def note(name):
        if loading and name != loading[-1]:
            imports.setdefault(loading[-1], {})[name] = None

    def traced_find_and_load(name, import_):
        note(name)
        found.add(name)
        loading.append(name)
        try:
            return _find_and_load(name, import_)
        finally:
            loading.pop()

    def traced_import(name, globals=None, locals=None, fromlist=(), level=0):
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

    noisy = set()
    importlib._find_and_load = traced_find_and_load
    builtins.__import__ = traced_import
    try:
        import warnings

        for name in names:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    traced_import(name, {}, None, ("*",))
                except BaseException:
                    # Not on this version or not in this build: the example will say so.
                    noisy.add(name)
            if caught:
                # A warning is meant for whoever imports; it would be lost.
                noisy.add(name)
    finally:
        builtins.__import__ = original_import
        importlib._find_and_load = _find_and_load

    stored = {}
    added = [name for name in sys.modules if name not in at_start]
    for name in added:
        # Such as `typing.re`: never imported, but put there by the package.
        if name not in found:
            imports.setdefault(name.rpartition(".")[0], {})[name] = None
    for name in added:
        module = sys.modules[name]
        package, _, attribute = name.rpartition(".")
        in_package = None
        if package and getattr(sys.modules.get(package), attribute, None) is module:
            in_package = (package, attribute)
        stored[name] = (module, list(imports.get(name, ())), in_package)
    for name in added:
        in_package = stored[name][2]
        if in_package:
            delattr(sys.modules[in_package[0]], in_package[1])
    for name in added:
        del sys.modules[name]

    # Whatever depends on a noisy module has to be imported in the plain way as well.
    while True:
        more = {name for name in stored if name in noisy or noisy.intersection(stored[name][1])}
        if not more:
            return stored
        noisy |= more
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
