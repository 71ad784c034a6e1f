#include "py/bridge.h"

#include "base/forked.h"

/* Written once, by the thread that starts the service, before any worker runs. */
static const struct pyn_bridge *current;

void pyn_bridge_set(const struct pyn_bridge *bridge)
{
    current = bridge;
}

const struct pyn_bridge *pyn_bridge_get(void)
{
    return pyn_forked() ? NULL : current;
}
