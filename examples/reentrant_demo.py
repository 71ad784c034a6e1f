"""The Python half of reentrant_demo.erl: functions that call Erlang functions, which call Python again."""

import erlang
from erlang import call


# Basic reentrant calls: Erlang evaluates an arithmetic expression by asking Python for each of its parts.

def evaluate(expression):
    """Erlang takes the expression apart, Python does the arithmetic, down to the numbers."""
    return call('demo_evaluate', expression)


def arithmetic(operator, left, right):
    return {
        '+': lambda: left + right,
        '-': lambda: left - right,
        '*': lambda: left * right,
        '/': lambda: left / right,
    }[operator]()


# Fibonacci: the recursion is Python's, the memo is Erlang's.

def fibonacci(n):
    if n < 2:
        return n
    return erlang.demo_fibonacci(n - 1) + erlang.demo_fibonacci(n - 2)


# Nesting: every level is a call from Python to Erlang and one from Erlang to Python.

def descend(level, deepest):
    """How deep it went; what each level adds is done on the way back."""
    if level == deepest:
        return [level]
    return [level] + call('demo_descend', level + 1, deepest)


# Objects: methods that call Erlang, and an object that Erlang calls back.

class Account:
    """An account whose rules are decided in Erlang."""

    accounts = {}

    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance
        Account.accounts[owner] = self

    def deposit(self, amount):
        self.balance = call('demo_checked_sum', self.owner, self.balance, amount)
        return self.balance

    def transfer(self, to, amount):
        """Erlang checks the rules, then calls back to move the money."""
        return call('demo_transfer', self.owner, to.owner, amount)

    def limit(self):
        return -100


def move(source, target, amount):
    """Called by Erlang, while a transfer of the same object waits for it."""
    Account.accounts[source].balance -= amount
    Account.accounts[target].balance += amount
    return [Account.accounts[source].balance, Account.accounts[target].balance]


def balance_and_limit(owner):
    account = Account.accounts[owner]
    return [account.balance, account.limit()]


def bank():
    """A few movements, and what Erlang refused."""
    alice, bob = Account('alice'), Account('bob', 50)
    alice.deposit(100)
    alice.transfer(bob, 150)
    try:
        alice.transfer(bob, 100)
        refused = None
    except erlang.CallbackError as error:
        refused = str(error)
    return {'alice': alice.balance, 'bob': bob.balance, 'refused': refused}
