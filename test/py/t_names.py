"""Every name that begins with name_ is a function of this module, which returns it."""


def own_name():
    return 'the wrong one'


def __getattr__(name):
    if not name.startswith('name_'):
        raise AttributeError(name)
    return lambda: name
