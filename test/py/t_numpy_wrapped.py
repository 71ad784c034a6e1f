"""As large packages do: they catch the error of what they need, and raise one of their own."""
try:
    import numpy
except ImportError as error:
    raise ImportError("t_numpy_wrapped needs numpy") from error


def total(values):
    return numpy.sum(values)
