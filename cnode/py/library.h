/* Python sources that are part of pynode: bootstrap.py, and the modules in cnode/py/lib, which every interpreter can
 * import (bootstrap.py installs the finder). Those that begin with `_pynode_` are for this program alone. */
#ifndef PYN_PY_LIBRARY_H
#define PYN_PY_LIBRARY_H

extern const char pyn_bootstrap_source[];
/* The source of the module of that name, UTF-8, for ever; NULL: there is no such module here. */
const char *pyn_library_source(const char *name);

#endif
