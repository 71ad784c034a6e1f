/* The texts of help(erlang). A function's first line is its signature, as inspect.signature reads it. The type stubs,
 * erlang_client/priv/python/erlang.pyi, say the same with types. */
#ifndef PYN_PY_MODULE_DOCS_H
#define PYN_PY_MODULE_DOCS_H

#define PYN_DOC_MODULE                                                                                                 \
    "The Erlang cluster that this Python code runs in.\n"                                                              \
    "\n"                                                                                                               \
    "Call what Erlang nodes have registered with py:register_function/2,3, in one of three ways:\n"                    \
    "\n"                                                                                                               \
    "    import erlang\n"                                                                                              \
    "    from erlang import double\n"                                                                                  \
    "\n"                                                                                                               \
    "    erlang.call('double', 21)\n"                                                                                  \
    "    erlang.double(21)\n"                                                                                          \
    "    double(21)\n"                                                                                                 \
    "\n"                                                                                                               \
    "and in a coroutine, while the event loop goes on:\n"                                                              \
    "\n"                                                                                                               \
    "    await erlang.async_call('double', 21)\n"                                                                      \
    "\n"                                                                                                               \
    "Every name of this module that is none of its own is a registered function, looked up when it is\n"               \
    "called. What fails in Erlang raises CallbackError:\n"                                                             \
    "\n"                                                                                                               \
    "    try:\n"                                                                                                       \
    "        erlang.call('divide', 1, 0)\n"                                                                            \
    "    except erlang.CallbackError as error:\n"                                                                      \
    "        print(error.class_, error.reason, error.stacktrace)\n"                                                    \
    "\n"                                                                                                               \
    "and CoordinatorDown says that the node which answers is not connected at the moment.\n"                           \
    "\n"                                                                                                               \
    "Share state with every other worker and node, in Python and Erlang (py:state_fetch/1 and so on):\n"               \
    "\n"                                                                                                               \
    "    erlang.state_set('config', {'model': 'small'})\n"                                                             \
    "    erlang.state_get('config')\n"                                                                                 \
    "    erlang.state_incr('requests')          # exact, however many count at once\n"                                 \
    "\n"                                                                                                               \
    "Send a message to an Erlang process, by its pid or its registered name:\n"                                        \
    "\n"                                                                                                               \
    "    erlang.send('my_server', (erlang.Atom('done'), 42))\n"                                                        \
    "\n"                                                                                                               \
    "Have `logging` go to Erlang's logger, and trace where the time goes (py:get_traces/0):\n"                         \
    "\n"                                                                                                               \
    "    erlang.setup_logging('info')\n"                                                                               \
    "\n"                                                                                                               \
    "    @erlang.trace()\n"                                                                                            \
    "    def work(items):\n"                                                                                           \
    "        with erlang.Span('parse', count=len(items)) as span:\n"                                                   \
    "            span.event('half')\n"                                                                                 \
    "\n"                                                                                                               \
    "All of it works from every thread and from coroutines. Values: str is a binary in Erlang and Atom an\n"           \
    "atom; int, float, bytes, bool, None (none), list, tuple and dict are what one expects; Pid, Reference,\n"         \
    "Port, Function, Bitstring and ImproperList are Erlang's own, and come back as they were."

#define PYN_DOC_NODE "node($module, /)\n--\n\nThe name of this node, such as 'py1@host'."

#define PYN_DOC_CALL                                                                                                   \
    "call($module, name, /, *args)\n--\n\n"                                                                            \
    "Calls the Erlang function that was registered by that name and returns its result.\n\n"                           \
    "The function gets one argument, the list of args, and may call Python again. Raises CallbackError when it\n"      \
    "fails or is not registered, CoordinatorDown when nobody is there to ask."

#define PYN_DOC_GETATTR                                                                                                \
    "__getattr__($module, name, /)\n--\n\n"                                                                            \
    "A function that calls the registered one of that name: erlang.name(*args) is erlang.call('name', *args)."

#define PYN_DOC_ASYNC_CALL                                                                                             \
    "async_call($module, name, /, *args)\n--\n\n"                                                                      \
    "As call(), to be awaited: the event loop goes on while Erlang works. Cancelling it ends the Erlang\n"             \
    "function, too."

#define PYN_DOC_SEND                                                                                                   \
    "send($module, /, to, term)\n--\n\n"                                                                               \
    "Sends a message to a process, which is an erlang.Pid, a name that is registered on the coordinator (str or\n"     \
    "Atom), or a tuple (Atom(name), Atom(node)). Waits for nothing, unless the peer takes nothing any more."

#define PYN_DOC_SELF "self($module, /)\n--\n\nThe process that stands for this node, an erlang.Pid."

#define PYN_DOC_STATE_GET                                                                                              \
    "state_get($module, /, key, default=None)\n--\n\n"                                                                 \
    "The value that the cluster's shared state holds for the key.\n\n"                                                 \
    "Keys are exact: 1, 1.0 and '1' are three. A str is a binary in Erlang."

#define PYN_DOC_STATE_SET "state_set($module, /, key, value)\n--\n\nStores the value; every worker and node sees it."

#define PYN_DOC_STATE_DELETE "state_delete($module, key, /)\n--\n\nRemoves the key; one that is not there is no error."

#define PYN_DOC_STATE_CLEAR "state_clear($module, /)\n--\n\nRemoves every key, for the whole cluster."

#define PYN_DOC_STATE_KEYS "state_keys($module, /)\n--\n\nA list of all keys."

#define PYN_DOC_STATE_INCR                                                                                             \
    "state_incr($module, /, key, by=1)\n--\n\n"                                                                        \
    "Adds to a counter, atomically, and returns its new value.\n\n"                                                    \
    "A missing key starts at 0. TypeError when the key holds no integer."

#define PYN_DOC_STATE_DECR                                                                                             \
    "state_decr($module, /, key, by=1)\n--\n\nSubtracts from a counter, otherwise as state_incr()."

#define PYN_DOC_ATOM                                                                                                   \
    "Atom(name)\n--\n\n"                                                                                               \
    "An Erlang atom: a str that becomes an atom in Erlang, where any other str becomes a binary. Atoms that come\n"    \
    "from Erlang are plain str, but for true, false, undefined, nil and none."

#define PYN_DOC_CALLBACK_ERROR                                                                                         \
    "A registered Erlang function failed, or there is none of that name.\n\n"                                          \
    "class_ is 'error', 'exit' or 'throw', reason what it failed with, stacktrace a list of str, the Erlang\n"         \
    "functions that were running. str() of it says it in one line. They are None where there was no\n"                 \
    "function, as when the shared state is full."

#define PYN_DOC_COORDINATOR_DOWN "The coordinator node is not connected. This node connects again by itself; try later."

#endif
