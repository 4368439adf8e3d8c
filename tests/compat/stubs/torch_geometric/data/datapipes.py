"""A decorator that registers nothing."""


def functional_transform(name):
    return lambda cls: cls
