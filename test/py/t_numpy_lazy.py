"""Imports numpy only when it runs."""


def total(values):
    import numpy

    return numpy.sum(values)
