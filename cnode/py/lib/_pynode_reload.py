"""py:reload: a module is loaded anew in the interpreters that have it."""
import importlib
import sys


def reload(name):
    """Returns whether the module was there. Raises what its code raises; it stays as it was until then."""
    module = sys.modules.get(name)
    if module is None:
        return False
    importlib.invalidate_caches()
    importlib.reload(module)
    return True
