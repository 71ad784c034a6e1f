"""How the module `erlang` looks, and whether its type stubs say the same."""
import ast
import importlib
import inspect
import pydoc

import erlang


def public(name):
    module = importlib.import_module(name)
    return sorted(n for n in dir(module) if not n.startswith("_"))


def help_text():
    return pydoc.render_doc(erlang, renderer=pydoc.plaintext)


def undocumented():
    """Public names without a docstring, and public methods of the classes."""
    missing = []
    for name in erlang.__all__:
        value = getattr(erlang, name)
        if not inspect.getdoc(value):
            missing.append(name)
        if inspect.isclass(value):
            missing += [f"{name}.{n}" for n, v in vars(value).items()
                        if not n.startswith("_") and callable(v) and not inspect.getdoc(v)]
    return missing


def imports(*names):
    """What `from erlang import ...` gives, in an interpreter that may have imported none of it before."""
    space = {}
    exec(f"from erlang import {', '.join(names)}", space)
    return [f"{type(space[name]).__name__} {space[name].__module__}" for name in names]


def star():
    space = {}
    exec("from erlang import *", space)
    return sorted(set(space) - {"__builtins__"}) == sorted(erlang.__all__)


def same_object(name):
    return getattr(erlang, name) is getattr(erlang, name)


def unknown(name):
    try:
        return type(getattr(erlang, name)).__name__
    except AttributeError as error:
        return str(error)


def exceptions():
    error = erlang.CallbackError("text")
    return [error.class_, error.reason, error.stacktrace, str(error), isinstance(error, RuntimeError),
            issubclass(erlang.CoordinatorDown, ConnectionError)]


def differences(path, module_name):
    """What the stub says otherwise than the module does."""
    module = importlib.import_module(module_name)
    with open(path, encoding="utf-8") as file:
        body = ast.parse(file.read()).body
    found, wrong = set(), []
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
            if not _overloaded(node):
                wrong += _compare(node, getattr(module, node.name), node.name, method=False)
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
            wrong += _compare_class(node, getattr(module, node.name))
        elif isinstance(node, ast.ImportFrom):
            source = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names if alias.name == alias.asname):
                found.add(name)
                if getattr(module, name) is not getattr(source, name):
                    wrong.append(f"{name} is not {node.module}'s")
    there = set(getattr(module, "__all__", None) or public(module_name))
    wrong += [f"{name} is not in the stub" for name in there - found]
    wrong += [f"{name} is not in the module" for name in found - there if name != "__getattr__"]
    return wrong


def _overloaded(node):
    return any(getattr(d, "id", None) == "overload" for d in node.decorator_list)


def _compare_class(node, value):
    wrong = []
    bases = [ast.unparse(base).split(".")[-1] for base in node.bases] or ["object"]
    if bases != [base.__name__ for base in value.__bases__]:
        wrong.append(f"{node.name} has other bases")
    instance = value("x") if node.name in ("Span", "CallbackError") else None
    for item in node.body:
        name = item.target.id if isinstance(item, ast.AnnAssign) else getattr(item, "name", None)
        if isinstance(item, ast.AnnAssign):
            if not hasattr(instance, name):
                wrong.append(f"{node.name}.{name} is missing")
        elif isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not hasattr(value, name):
                wrong.append(f"{node.name}.{name} is missing")
            elif not item.decorator_list and inspect.isfunction(getattr(value, name)):
                wrong += _compare(item, getattr(value, name), f"{node.name}.{name}", method=True)
                if isinstance(item, ast.AsyncFunctionDef) != inspect.iscoroutinefunction(getattr(value, name)):
                    wrong.append(f"{node.name}.{name}: one of the two is async")
    for name in vars(value):
        if not name.startswith("_") and name not in {getattr(i, "name", None) or i.target.id for i in node.body
                                                     if not isinstance(i, (ast.Expr, ast.Pass))}:
            if not inspect.ismemberdescriptor(vars(value)[name]):
                wrong.append(f"{node.name}.{name} is not in the stub")
    return wrong


def _compare(node, value, name, method):
    parameters = list(inspect.signature(value).parameters.values())
    there = [(p.name, p.kind.name, None if p.default is p.empty else repr(p.default)) for p in parameters]
    a = node.args
    defaults = [None] * (len(a.posonlyargs) + len(a.args) - len(a.defaults)) + [ast.unparse(d) for d in a.defaults]
    here = [(p.arg, "POSITIONAL_ONLY") for p in a.posonlyargs] + [(p.arg, "POSITIONAL_OR_KEYWORD") for p in a.args]
    here = [(*p, d) for p, d in zip(here, defaults)]
    here += [(a.vararg.arg, "VAR_POSITIONAL", None)] if a.vararg else []
    here += [(p.arg, "KEYWORD_ONLY", d and ast.unparse(d)) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    here += [(a.kwarg.arg, "VAR_KEYWORD", None)] if a.kwarg else []
    return [] if there == here else [f"{name}: {here} in the stub, {there} in the module"]


def terms(function):
    """The terms that Python has nothing for: self() is a Pid of this node; a fun comes and goes back."""
    pid = erlang.self()
    return [type(pid) is erlang.Pid, pid.node == erlang.node(), pid == erlang.self(), type(function) is erlang.Function,
            function]
