#include "py/result.h"

#include "etf/writer.h"
#include "py/child.h"
#include "py/encode.h"
#include "py/error.h"

enum pyn_call_outcome pyn_result_error(struct pyn_types *ty, struct pyn_out *out, size_t mark, bool traceback)
{
    pyn_child_ends();
    pyn_out_truncate(out, mark);
    pyn_write_tuple(&out->buf, 2);
    pyn_write_atom(&out->buf, "error");
    pyn_error_write(ty, out, traceback);
    return PYN_CALL_ERROR;
}

enum pyn_call_outcome pyn_result_value(struct pyn_types *ty, struct pyn_out *out, PyObject *value, bool traceback)
{
    size_t mark = out->buf.len;
    int bad;

    pyn_write_tuple(&out->buf, 2);
    pyn_write_atom(&out->buf, "ok");
    bad = pyn_encode(ty, value, out);
    Py_DECREF(value);
    return bad ? pyn_result_error(ty, out, mark, traceback) : PYN_CALL_OK;
}
