"""What the demonstration (demo.erl) has Python do with each file."""
import hashlib
import io
import tokenize

KINDS = {
    tokenize.NAME: "names",
    tokenize.NUMBER: "numbers",
    tokenize.STRING: "strings",
    tokenize.OP: "operators",
    tokenize.COMMENT: "comments",
}
# From Python 3.12 on an f-string comes in pieces.
OPENS = {getattr(tokenize, name, None) for name in ("FSTRING_START", "TSTRING_START")} - {None}
CLOSES = {getattr(tokenize, name, None) for name in ("FSTRING_END", "TSTRING_END")} - {None}


def look(name, data):
    """Hash and counts of a file. `python` says whether it is Python code, `words` or tokens tell how much it is."""
    result = {"sha256": hashlib.sha256(data).digest(), "bytes": len(data), "lines": data.count(b"\n"), "python": False}
    if name.endswith(".py"):
        try:
            return result | tokens(data) | {"python": True}
        except (tokenize.TokenError, SyntaxError):
            pass  # a test of what broken code leads to
    return result | {"words": len(data.split())}


def tokens(data):
    counts = dict.fromkeys(KINDS.values(), 0)
    open_strings = 0
    for token in tokenize.tokenize(io.BytesIO(data).readline):
        if token.type in OPENS:
            counts["strings"] += open_strings == 0
            open_strings += 1
        elif token.type in CLOSES:
            open_strings -= 1
        elif open_strings == 0 and token.type in KINDS:
            counts[KINDS[token.type]] += 1
    return counts
