"""The Python half of shared_state.erl: workers that share a configuration, counters and results."""

from erlang import state_decr, state_delete, state_get, state_incr, state_keys, state_set


def handle(request):
    """One request, on whatever worker of whatever node."""
    limit = state_get('config', {}).get('limit', 10)
    state_incr('active')
    try:
        if request > limit:
            state_incr('refused')
            return None
        state_incr('served')
        state_incr('bytes', by=request * 100)
        state_set(('result', request), request * request)
        return request * request
    finally:
        state_decr('active')


def results():
    """What all workers have stored."""
    return {key[1]: state_get(key) for key in state_keys() if isinstance(key, tuple) and key[0] == 'result'}


def forget(request):
    state_delete(('result', request))
    return state_get(('result', request), 'forgotten')
