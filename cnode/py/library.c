#include "py/library.h"

#include <stddef.h>
#include <string.h>

/* Python sources, as they stand in the source folder. */
#define SOURCE(name, file)                                                                                             \
    __asm__(".section .rodata\n.global " #name "\n" #name ":\n.incbin \"" file "\"\n.byte 0\n.previous\n");            \
    extern const char(name)[]

SOURCE(pyn_bootstrap_source, "py/bootstrap.py");

/* The modules of cnode/py/lib, one line each. */
/* clang-format off */
#define MODULES(X) \
    X(_pynode_aio) \
    X(_pynode_astream) \
    X(_pynode_ensure) \
    X(_pynode_imports) \
    X(_pynode_logging) \
    X(_pynode_loop) \
    X(_pynode_memory) \
    X(_pynode_output) \
    X(_pynode_reload) \
    X(_pynode_report) \
    X(_pynode_stream) \
    X(_pynode_threads) \
    X(_pynode_tracing) \
    X(_pynode_venv) \
    X(erlang_asyncio)
/* clang-format on */

#define MODULE_SOURCE(name) SOURCE(pyn_library_##name, "py/lib/" #name ".py");
MODULES(MODULE_SOURCE)

#define MODULE_ENTRY(name) {#name, pyn_library_##name},
static const struct {
    const char *name;
    const char *source;
} modules[] = {MODULES(MODULE_ENTRY)};

const char *pyn_library_source(const char *name)
{
    for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
        if (strcmp(modules[i].name, name) == 0)
            return modules[i].source;
    return NULL;
}
