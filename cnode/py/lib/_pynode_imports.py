"""The modules that the configuration wants to be imported at the start of every interpreter (py_command.erl)."""
import sys


def load(namespace, names):
    """As `import NAME` for each. One that sub-interpreters refuse is imported in the main interpreter alone."""
    for name in names:
        try:
            __import__(name)
        except Exception as error:
            if _is_refusal(error):
                continue
            raise ImportError(f"{name}, which `imports` names, cannot be imported: {type(error).__name__}: {error}") from error
        top = name.partition(".")[0]
        namespace[top] = sys.modules[top]


def _is_refusal(error):
    """Packages catch the error of what they need, and raise one of their own."""
    for _ in range(16):
        if error is None:
            return False
        if isinstance(error, ImportError) and "does not support loading in subinterpreters" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
