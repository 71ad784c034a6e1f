"""What `make bench` has pynode do."""


def identity(value):
    return value


def spin(n):
    total = 0
    for i in range(n):
        total += i * i
    return total
